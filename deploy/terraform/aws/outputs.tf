output "bootstrap_servers" {
  description = "Brokers, for senders of requests: SASL/SCRAM over TLS."
  value       = aws_msk_cluster.this.bootstrap_brokers_sasl_scram
}

output "kafka_secret_arn" {
  description = "Secret with user and password of the broker."
  value       = aws_secretsmanager_secret.kafka.arn
}

output "registry_url" {
  description = "INFLIGHT_REGISTRY, for whoever trains."
  value       = "s3://${aws_s3_bucket.registry.bucket}/registry"
}

output "registry_signing_key" {
  description = "INFLIGHT_REGISTRY_SIGNING_KEY, for whoever trains."
  value       = random_password.signing.result
  sensitive   = true
}

output "registry_writer_role_arn" {
  description = "Role that may change the registry."
  value       = aws_iam_role.registry["writer"].arn
}

output "archive_endpoint" {
  description = "Host and port of the archive's PostgreSQL."
  value       = aws_db_instance.archive.endpoint
}

output "archive_url" {
  description = "INFLIGHT_ARCHIVE_URL, with its password."
  value       = local.archive_url
  sensitive   = true
}
