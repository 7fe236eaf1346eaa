{{- define "inflight.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- /* Labels that select the pods of the release; with a component, those of a process. */}}
{{- define "inflight.selector" -}}
app.kubernetes.io/name: inflight
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .name }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end }}

{{- define "inflight.labels" -}}
{{ include "inflight.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: inflight
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- /* The image of a process: its own, or that of all. */}}
{{- define "inflight.image" -}}
{{- $image := .root.Values.image }}
{{- if and .process.values.image .process.values.image.repository }}{{ $image = .process.values.image }}{{ end }}
{{- with $image }}{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.root.Chart.AppVersion }}{{ end }}{{ end }}
{{- end }}

{{- /* What one process is: its part of the generated table, its values, the defaults. */}}
{{- define "inflight.process" -}}
{{- $table := .root.Files.Get "files/processes.yaml" | fromYaml }}
{{- $values := mergeOverwrite (deepCopy .root.Values.defaults) (deepCopy (index .root.Values.processes .name)) }}
{{- dict "name" .name "is" (index $table .name) "values" $values | toYaml }}
{{- end }}

{{- /* Names of the processes that run, by kind: Deployment or CronJob. */}}
{{- define "inflight.enabled" -}}
{{- range $name, $is := .root.Files.Get "files/processes.yaml" | fromYaml }}
{{- if and (index $.root.Values.processes $name).enabled (eq $is.kind $.kind) }}
- {{ $name }}
{{- end }}
{{- end }}
{{- end }}

{{- /* A setting from a Secret. */}}
{{- define "inflight.secret" -}}
- name: {{ .name }}
  valueFrom: {secretKeyRef: {name: {{ .from.existingSecret | quote }}, key: {{ .from.key | quote }}}}
{{- end }}

{{- /* What would fail at run time fails here, with the fix. */}}
{{- define "inflight.check" -}}
{{- $v := .Values }}
{{- if not $v.kafka.bootstrapServers }}{{ fail "kafka.bootstrapServers is empty: name the brokers, such as kafka:9093" }}{{ end }}
{{- if and $v.production (not $v.kafka.options.existingSecret) }}
  {{- range $name, $values := $v.processes }}
    {{- if and $values.enabled (not (dig "kafkaOptions" "existingSecret" "" $values)) }}
      {{- fail (printf "production is true, and %s has no Kafka options: name a Secret with security.protocol in kafka.options.existingSecret or processes.%s.kafkaOptions.existingSecret, or set production to false" $name $name) }}
    {{- end }}
  {{- end }}
{{- end }}
{{- range $name, $is := .Files.Get "files/processes.yaml" | fromYaml }}
  {{- $values := index $v.processes $name }}
  {{- if $values.enabled }}
    {{- if and (has "elasticsearch" $is.needs) (not $v.elasticsearch.url) }}
      {{- fail (printf "processes.%s needs Elasticsearch: set elasticsearch.url, or processes.%s.enabled to false" $name $name) }}
    {{- end }}
    {{- if and (or (has "registry" $is.needs) (has "registry-write" $is.needs)) (not $v.registry.url) (not $v.registry.existingClaim) }}
      {{- fail (printf "processes.%s needs the registry: set registry.url or registry.existingClaim" $name) }}
    {{- end }}
    {{- if and (has "database" $is.needs) (not $v.archive.url.existingSecret) }}
      {{- fail (printf "processes.%s needs a database: set archive.url.existingSecret, or processes.%s.enabled to false" $name $name) }}
    {{- end }}
    {{- if and (has "policies" $is.needs) (not $v.policies) }}
      {{- fail (printf "processes.%s needs policies: set policies to the text of inflight.toml" $name) }}
    {{- end }}
    {{- if and $is.shares (gt (int ($values.replicas | default 1)) (int $v.kafka.partitions)) }}
      {{- fail (printf "processes.%s.replicas is %d, and there are %d partitions: what has no partition does nothing" $name (int $values.replicas) (int $v.kafka.partitions)) }}
    {{- end }}
    {{- if and (not $is.shares) (eq $is.kind "Deployment") (not $is.many) (gt (int ($values.replicas | default 1)) 1) }}
      {{- fail (printf "processes.%s.replicas is %d: there can be one" $name (int $values.replicas)) }}
    {{- end }}
  {{- end }}
{{- end }}
{{- if and $v.processes.gateway.enabled (not $v.gateway.keys.existingSecret) }}
  {{- fail "the gateway needs API keys: `inflight keys add` writes gateway-keys.json; put it into a Secret and name that in gateway.keys.existingSecret" }}
{{- end }}
{{- if and $v.autoscaling.enabled (gt (int ($v.autoscaling.maxReplicas | default 1)) (int $v.kafka.partitions)) }}
  {{- fail (printf "autoscaling.maxReplicas is %d, and there are %d partitions: a worker without a partition does nothing" (int $v.autoscaling.maxReplicas) (int $v.kafka.partitions)) }}
{{- end }}
{{- if and $v.autoscaling.enabled (not $v.processes.exporter.enabled) }}
  {{- fail "autoscaling needs processes.exporter: it measures the lag" }}
{{- end }}
{{- end }}
