variable "name" {
  description = "Name of the deployment: of its broker, bucket, database and Helm release."
  type        = string
  default     = "inflight"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,28}[a-z0-9]$", var.name))
    error_message = "name must have 3 to 30 lower-case letters, digits and hyphens, and begin with a letter."
  }
}

variable "region" {
  description = "Region of AWS, such as eu-central-1."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region must be one of AWS, such as eu-central-1."
  }
}

variable "cluster_name" {
  description = "Name of an EKS cluster, version 1.30 or newer, with an OpenID Connect provider in IAM."
  type        = string
}

variable "vpc_id" {
  description = "VPC of the cluster."
  type        = string

  validation {
    condition     = startswith(var.vpc_id, "vpc-")
    error_message = "vpc_id must begin with vpc-."
  }
}

variable "subnet_ids" {
  description = "Three private subnets, in three zones, for brokers and database."
  type        = list(string)

  validation {
    condition     = length(distinct(var.subnet_ids)) == 3
    error_message = "subnet_ids must name three subnets: one broker lives in each zone."
  }
}

variable "namespace" {
  description = "Namespace of Inflight."
  type        = string
  default     = "inflight"
}

variable "image_repository" {
  description = "Repository of the image, such as 111122223333.dkr.ecr.eu-central-1.amazonaws.com/inflight."
  type        = string
}

variable "image_digest" {
  description = "Digest of the image, sha256:..."
  type        = string

  validation {
    condition     = can(regex("^sha256:[0-9a-f]{64}$", var.image_digest))
    error_message = "image_digest must be sha256: and 64 hexadecimal digits: a tag may change."
  }
}

variable "kafka_version" {
  description = "Version of Apache Kafka that MSK runs, in KRaft mode."
  type        = string
  default     = "3.9.x.kraft"
}

variable "kafka_instance_type" {
  description = "Instance type of each of the three brokers."
  type        = string
  default     = "kafka.m7g.large"

  validation {
    condition     = startswith(var.kafka_instance_type, "kafka.")
    error_message = "kafka_instance_type must begin with kafka."
  }
}

variable "kafka_volume_gib" {
  description = "Size of each broker's volume, in GiB. Retention times the rate of requests times the record size, three times over."
  type        = number
  default     = 200

  validation {
    condition     = var.kafka_volume_gib >= 50 && var.kafka_volume_gib <= 16384
    error_message = "kafka_volume_gib must be from 50 to 16384."
  }
}

variable "partitions" {
  description = "Partitions of each topic: the most workers that can share the requests."
  type        = number
  default     = 12

  validation {
    condition     = var.partitions >= 1 && var.partitions <= 1000 && floor(var.partitions) == var.partitions
    error_message = "partitions must be a whole number from 1 to 1000."
  }
}

variable "database_instance_class" {
  description = "Instance class of the archive's PostgreSQL."
  type        = string
  default     = "db.m7g.large"
}

variable "database_storage_gib" {
  description = "Size of the archive, in GiB; it grows by itself up to four times that."
  type        = number
  default     = 100

  validation {
    condition     = var.database_storage_gib >= 20
    error_message = "database_storage_gib must be at least 20."
  }
}

variable "elasticsearch_url" {
  description = "Address of Elasticsearch (https), such as one of ECK or Elastic Cloud."
  type        = string

  validation {
    condition     = startswith(var.elasticsearch_url, "https://")
    error_message = "elasticsearch_url must begin with https://."
  }
}

variable "elasticsearch_api_key_secret" {
  description = "Name of a Secret in the namespace, with the key apiKey: the API key of Elasticsearch."
  type        = string
  default     = "inflight-search"
}

variable "gateway_keys_secret" {
  description = "Name of a Secret in the namespace, with the key gateway-keys.json, as `inflight keys` writes it."
  type        = string
  default     = "inflight-keys"
}

variable "install_addons" {
  description = "Install KEDA and kube-prometheus-stack. Turn it off where the cluster has them."
  type        = bool
  default     = true
}

variable "keda_chart_version" {
  description = "Version of KEDA's chart."
  type        = string
  default     = "2.18.0"
}

variable "kube_prometheus_chart_version" {
  description = "Version of the chart kube-prometheus-stack."
  type        = string
  default     = "77.0.0"
}

variable "deletion_protection" {
  description = "Refuse to delete the database and what is in the bucket."
  type        = bool
  default     = true
}

variable "tags" {
  description = "Further tags of everything."
  type        = map(string)
  default     = {}
}
