resource "random_password" "archive" {
  length  = 40
  special = false
}

resource "aws_db_subnet_group" "archive" {
  name       = "${var.name}-archive"
  subnet_ids = var.subnet_ids
}

resource "aws_security_group" "archive" {
  name        = "${var.name}-archive"
  description = "Archive of Inflight"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "archive" {
  security_group_id            = aws_security_group.archive.id
  description                  = "PostgreSQL, from the pods of the cluster"
  referenced_security_group_id = data.aws_eks_cluster.this.vpc_config[0].cluster_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
}

resource "aws_db_parameter_group" "archive" {
  name   = "${var.name}-archive"
  family = "postgres17"

  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }

  parameter {
    name  = "log_min_duration_statement"
    value = "1000"
  }

  # Statements that change tables; those of the process would be every row.
  parameter {
    name  = "log_statement"
    value = "ddl"
  }
}

data "aws_iam_policy_document" "database_monitoring" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["monitoring.rds.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "database_monitoring" {
  name               = "${var.name}-database-monitoring"
  assume_role_policy = data.aws_iam_policy_document.database_monitoring.json
}

resource "aws_iam_role_policy_attachment" "database_monitoring" {
  role       = aws_iam_role.database_monitoring.name
  policy_arn = "arn:${data.aws_partition.this.partition}:iam::aws:policy/service-role/AmazonRDSEnhancedMonitoringRole"
}

resource "aws_db_instance" "archive" {
  identifier                          = "${var.name}-archive"
  engine                              = "postgres"
  engine_version                      = "17"
  instance_class                      = var.database_instance_class
  allocated_storage                   = var.database_storage_gib
  max_allocated_storage               = 4 * var.database_storage_gib
  storage_type                        = "gp3"
  storage_encrypted                   = true
  kms_key_id                          = aws_kms_key.this.arn
  db_name                             = "inflight"
  username                            = "inflight"
  password                            = random_password.archive.result
  parameter_group_name                = aws_db_parameter_group.archive.name
  db_subnet_group_name                = aws_db_subnet_group.archive.name
  vpc_security_group_ids              = [aws_security_group.archive.id]
  publicly_accessible                 = false
  multi_az                            = true
  iam_database_authentication_enabled = true
  backup_retention_period             = 14
  copy_tags_to_snapshot               = true
  auto_minor_version_upgrade          = true
  performance_insights_enabled        = true
  performance_insights_kms_key_id     = aws_kms_key.this.arn
  monitoring_interval                 = 60
  monitoring_role_arn                 = aws_iam_role.database_monitoring.arn
  enabled_cloudwatch_logs_exports     = ["postgresql", "upgrade"]
  deletion_protection                 = var.deletion_protection
  skip_final_snapshot                 = !var.deletion_protection
  final_snapshot_identifier           = "${var.name}-archive-final"
}
