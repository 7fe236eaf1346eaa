locals {
  # The chart names its objects after the release, with the chart's name in it.
  release = strcontains(var.name, "inflight") ? var.name : "${var.name}-inflight"
  roles   = merge({ for name in local.readers : name => "reader" }, { for name in local.writers : name => "writer" })

  kafka_options = {
    "security.protocol" = "SASL_SSL"
    "sasl.mechanism"    = "SCRAM-SHA-512"
    "sasl.username"     = "inflight"
    "sasl.password"     = random_password.kafka.result
  }

  archive_url = "postgresql://inflight:${random_password.archive.result}@${aws_db_instance.archive.endpoint}/inflight?sslmode=require"
}

resource "kubernetes_namespace_v1" "inflight" {
  metadata {
    name   = var.namespace
    labels = { "pod-security.kubernetes.io/enforce" = "restricted" }
  }
}

resource "random_password" "signing" {
  length  = 64
  special = false
}

resource "kubernetes_secret_v1" "inflight" {
  metadata {
    name      = "${local.release}-terraform"
    namespace = kubernetes_namespace_v1.inflight.metadata[0].name
  }

  data = {
    options     = jsonencode(local.kafka_options)
    url         = local.archive_url
    signing-key = random_password.signing.result
  }
}

resource "helm_release" "keda" {
  count = var.install_addons ? 1 : 0

  name             = "keda"
  repository       = "https://kedacore.github.io/charts"
  chart            = "keda"
  version          = var.keda_chart_version
  namespace        = "keda"
  create_namespace = true
}

resource "helm_release" "prometheus" {
  count = var.install_addons ? 1 : 0

  name             = "prometheus"
  repository       = "https://prometheus-community.github.io/helm-charts"
  chart            = "kube-prometheus-stack"
  version          = var.kube_prometheus_chart_version
  namespace        = "monitoring"
  create_namespace = true
}

resource "helm_release" "inflight" {
  name      = var.name
  chart     = "${path.module}/../../chart/inflight"
  namespace = kubernetes_namespace_v1.inflight.metadata[0].name

  values = [yamlencode({
    image = { repository = var.image_repository, digest = var.image_digest }
    kafka = {
      bootstrapServers = aws_msk_cluster.this.bootstrap_brokers_sasl_scram
      options          = { existingSecret = kubernetes_secret_v1.inflight.metadata[0].name }
      partitions       = var.partitions
    }
    elasticsearch = { url = var.elasticsearch_url, apiKey = { existingSecret = var.elasticsearch_api_key_secret } }
    registry = {
      url         = "s3://${aws_s3_bucket.registry.bucket}/registry"
      signingKey  = { existingSecret = kubernetes_secret_v1.inflight.metadata[0].name }
      environment = { AWS_REGION = var.region }
    }
    archive = { url = { existingSecret = kubernetes_secret_v1.inflight.metadata[0].name } }
    gateway = { keys = { existingSecret = var.gateway_keys_secret } }
    processes = merge(
      {
        for name, kind in local.roles : name => {
          serviceAccount = { annotations = { "eks.amazonaws.com/role-arn" = aws_iam_role.registry[kind].arn } }
        }
      },
      { archive = { enabled = true } },
    )
    autoscaling    = { enabled = true }
    serviceMonitor = { enabled = true, labels = { release = "prometheus" } }
    prometheusRule = { enabled = true, labels = { release = "prometheus" } }
    dashboards     = { enabled = true }
    networkPolicy  = { kafka = { ports = [9096] } }
  })]

  # Their kinds of objects have to be there.
  depends_on = [helm_release.keda, helm_release.prometheus, aws_msk_scram_secret_association.this]
}
