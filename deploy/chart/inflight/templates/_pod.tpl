{{- /* The environment of a process. */}}
{{- define "inflight.environment" -}}
{{- $v := .root.Values }}
{{- $needs := .process.is.needs }}
{{- $plain := dict
  "HOME" "/tmp"
  "INFLIGHT_HOME" "/var/lib/inflight"
  "INFLIGHT_KAFKA_BOOTSTRAP_SERVERS" $v.kafka.bootstrapServers
  "INFLIGHT_METRICS_HOST" "0.0.0.0"
  "INFLIGHT_PRODUCTION" (toString $v.production)
  "INFLIGHT_TOPIC_PARTITIONS" (toString $v.kafka.partitions)
  "INFLIGHT_TOPIC_REPLICATION" (toString $v.kafka.replication)
  "OMP_NUM_THREADS" "1"
  "OPENBLAS_NUM_THREADS" "1" }}
{{- with $v.kafka.topicPrefix }}{{ $_ := set $plain "INFLIGHT_TOPIC_PREFIX" . }}{{ end }}
{{- with .process.is.portVariable }}{{ $_ := set $plain . (toString $.process.is.port) }}{{ end }}
{{- $search := and $v.elasticsearch.url (or (has "elasticsearch" $needs) (has "elasticsearch-optional" $needs)) }}
{{- if $search }}
  {{- $_ := set $plain "INFLIGHT_ELASTICSEARCH_URL" $v.elasticsearch.url }}
  {{- $_ := set $plain "INFLIGHT_ELASTICSEARCH_REPLICAS" (toString $v.elasticsearch.replicas) }}
  {{- $_ := set $plain "INFLIGHT_ELASTICSEARCH_RETENTION_DAYS" (toString $v.elasticsearch.retentionDays) }}
  {{- with $v.elasticsearch.ca.existingSecret }}{{ $_ := set $plain "INFLIGHT_ELASTICSEARCH_CA_CERTS" "/etc/inflight/elasticsearch/ca.crt" }}{{ end }}
{{- end }}
{{- $registry := or (has "registry" $needs) (has "registry-write" $needs) }}
{{- if $registry }}
  {{- $_ := set $plain "INFLIGHT_REGISTRY" ($v.registry.url | default "/var/lib/registry") }}
  {{- with $v.registry.signingKey.existingSecret }}{{ $_ := set $plain "INFLIGHT_REGISTRY_SIGNING_KEY_FILE" "/etc/inflight/signing/key" }}{{ end }}
  {{- range $name, $value := $v.registry.environment }}{{ $_ := set $plain $name $value }}{{ end }}
{{- end }}
{{- if eq .process.name "gateway" }}
  {{- $_ := set $plain "INFLIGHT_GATEWAY_HOST" "0.0.0.0" }}
  {{- $_ := set $plain "INFLIGHT_GATEWAY_PORT" "8080" }}
  {{- $_ := set $plain "INFLIGHT_GATEWAY_KEYS" "/etc/inflight/keys/gateway-keys.json" }}
  {{- with $v.gateway.allowedHosts }}{{ $_ := set $plain "INFLIGHT_GATEWAY_ALLOWED_HOSTS" (toJson .) }}{{ end }}
{{- end }}
{{- if has "policies" $needs }}{{ $_ := set $plain "INFLIGHT_POLICIES" "/etc/inflight/policies/inflight.toml" }}{{ end }}
{{- range $name, $value := merge (deepCopy .process.values.settings) $v.settings $plain }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- $options := ternary .process.values.kafkaOptions $v.kafka.options (not (empty .process.values.kafkaOptions.existingSecret)) }}
{{- if and $options.existingSecret (not (has "no-kafka" $needs)) }}
{{ include "inflight.secret" (dict "name" "INFLIGHT_KAFKA_OPTIONS" "from" $options) }}
{{- end }}
{{- if and $search $v.elasticsearch.apiKey.existingSecret }}
{{ include "inflight.secret" (dict "name" "INFLIGHT_ELASTICSEARCH_API_KEY" "from" $v.elasticsearch.apiKey) }}
{{- end }}
{{- if or (has "database" $needs) (and (has "database-optional" $needs) $v.archive.url.existingSecret) }}
{{ include "inflight.secret" (dict "name" "INFLIGHT_ARCHIVE_URL" "from" (.archiveUrl | default $v.archive.url)) }}
{{- end }}
{{- end }}

{{- /* Mounts (what: mounts) or volumes (what: volumes) of a process. */}}
{{- define "inflight.mounts" -}}
{{- $v := .root.Values }}
{{- $needs := .process.is.needs }}
{{- $registry := or (has "registry" $needs) (has "registry-write" $needs) }}
{{- $search := and $v.elasticsearch.url (or (has "elasticsearch" $needs) (has "elasticsearch-optional" $needs)) }}
{{- $volumes := list
  (dict "name" "tmp" "path" "/tmp" "volume" (dict "emptyDir" (dict "sizeLimit" "256Mi")))
  (dict "name" "home" "path" "/var/lib/inflight" "volume" (has "volume" $needs | ternary (dict "persistentVolumeClaim" (dict "claimName" (printf "%s-%s" (include "inflight.fullname" .root) .process.name))) (dict "emptyDir" (dict "sizeLimit" .process.values.home.size)))) }}
{{- if and $registry (not $v.registry.url) }}
  {{- $readOnly := not (has "registry-write" $needs) }}
  {{- $volumes = append $volumes (dict "name" "registry" "path" "/var/lib/registry" "readOnly" $readOnly "volume" (dict "persistentVolumeClaim" (dict "claimName" $v.registry.existingClaim "readOnly" $readOnly))) }}
{{- end }}
{{- $secrets := list }}
{{- if not (has "no-kafka" $needs) }}{{ $secrets = append $secrets (dict "name" "kafka" "from" $v.kafka.ca "file" "ca.crt") }}{{ end }}
{{- if $search }}{{ $secrets = append $secrets (dict "name" "elasticsearch" "from" $v.elasticsearch.ca "file" "ca.crt") }}{{ end }}
{{- if $registry }}{{ $secrets = append $secrets (dict "name" "signing" "from" $v.registry.signingKey "file" "key") }}{{ end }}
{{- if eq .process.name "gateway" }}{{ $secrets = append $secrets (dict "name" "keys" "from" $v.gateway.keys "file" "gateway-keys.json") }}{{ end }}
{{- range $secrets }}
  {{- if .from.existingSecret }}
    {{- $volumes = append $volumes (dict "name" .name "path" (printf "/etc/inflight/%s" .name) "readOnly" true "volume" (dict "secret" (dict "secretName" .from.existingSecret "defaultMode" 0o440 "items" (list (dict "key" .from.key "path" .file))))) }}
  {{- end }}
{{- end }}
{{- if has "policies" $needs }}
  {{- $volumes = append $volumes (dict "name" "policies" "path" "/etc/inflight/policies" "readOnly" true "volume" (dict "configMap" (dict "name" (printf "%s-policies" (include "inflight.fullname" .root))))) }}
{{- end }}
{{- range $volumes }}
{{- if eq $.what "mounts" }}
- name: {{ .name }}
  mountPath: {{ .path }}
  {{- if .readOnly }}
  readOnly: true
  {{- end }}
{{- else }}
- name: {{ .name }}
  {{- toYaml .volume | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{- /* The metadata and specification of the pods of a process: root, process, and for a job restartPolicy and arguments. */}}
{{- define "inflight.pod" -}}
{{- $v := .root.Values }}
{{- $values := .process.values }}
metadata:
  labels:
    {{- include "inflight.labels" (dict "root" .root "name" .process.name) | nindent 4 }}
    {{- with $values.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  annotations:
    kubectl.kubernetes.io/default-container: {{ .process.name }}
    {{- if has "policies" .process.is.needs }}
    checksum/policies: {{ $v.policies | sha256sum }}
    {{- end }}
    {{- with $values.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  {{- if .restartPolicy }}
  restartPolicy: {{ .restartPolicy }}
  {{- end }}
  serviceAccountName: {{ .serviceAccount | default (printf "%s-%s" (include "inflight.fullname" .root) .process.name) }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
  {{- with $values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $v.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: {type: RuntimeDefault}
  {{- with $values.nodeSelector }}
  nodeSelector: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.tolerations }}
  tolerations: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.affinity }}
  affinity: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- if and $v.topologySpread.enabled (not .restartPolicy) }}
  topologySpreadConstraints:
    {{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
    - topologyKey: {{ $key }}
      maxSkew: 1
      whenUnsatisfiable: {{ $v.topologySpread.whenUnsatisfiable }}
      labelSelector:
        matchLabels: {{ include "inflight.selector" (dict "root" $.root "name" $.process.name) | nindent 10 }}
    {{- end }}
  {{- end }}
  containers:
    - name: {{ .process.name }}
      image: {{ include "inflight.image" . | quote }}
      imagePullPolicy: {{ $v.image.pullPolicy }}
      command: [inflight]
      args: {{ .arguments | default .process.is.command | toJson }}
      env: {{- include "inflight.environment" . | nindent 8 }}
      {{- if and $v.registry.credentials.existingSecret (or (has "registry" .process.is.needs) (has "registry-write" .process.is.needs)) }}
      envFrom:
        - secretRef: {name: {{ $v.registry.credentials.existingSecret | quote }}}
      {{- end }}
      {{- if not .restartPolicy }}
      ports:
        - {name: metrics, containerPort: {{ .process.is.port }}, protocol: TCP}
        {{- if eq .process.name "gateway" }}
        - {name: http, containerPort: 8080, protocol: TCP}
        {{- end }}
      # Slow: models may have to be downloaded and opened.
      startupProbe:
        httpGet: {path: /livez, port: metrics}
        periodSeconds: 5
        failureThreshold: 60
        timeoutSeconds: 3
      # Nothing but the process itself: an outage of the broker must not restart it.
      livenessProbe:
        httpGet: {path: /livez, port: metrics}
        periodSeconds: 10
        failureThreshold: 6
        timeoutSeconds: 5
      readinessProbe:
        httpGet: {path: /readyz, port: metrics}
        periodSeconds: 5
        failureThreshold: 2
        timeoutSeconds: 5
      {{- if eq .process.name "gateway" }}
      lifecycle:
        # The addresses of the Service forget the pod before it stops to listen.
        preStop: {sleep: {seconds: 5}}
      {{- end }}
      {{- end }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        runAsNonRoot: true
        capabilities: {drop: [ALL]}
      resources: {{ toYaml $values.resources | nindent 8 }}
      volumeMounts: {{- include "inflight.mounts" (merge (dict "what" "mounts") .) | nindent 8 }}
  volumes: {{- include "inflight.mounts" (merge (dict "what" "volumes") .) | nindent 4 }}
{{- end }}
