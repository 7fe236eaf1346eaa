# Roles of the service accounts: those who read the registry, and those who change it. Nobody else has a role.
locals {
  issuer  = replace(data.aws_eks_cluster.this.identity[0].oidc[0].issuer, "https://", "")
  readers = ["worker", "gateway", "exporter", "drift-monitor", "label-joiner"]
  writers = ["rollout-controller", "retrain"]
}

data "aws_iam_openid_connect_provider" "this" {
  url = data.aws_eks_cluster.this.identity[0].oidc[0].issuer
}

data "aws_iam_policy_document" "trust" {
  for_each = { reader = local.readers, writer = local.writers }

  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = [data.aws_iam_openid_connect_provider.this.arn]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:aud"
      values   = ["sts.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:sub"
      values   = [for process in each.value : "system:serviceaccount:${var.namespace}:${local.release}-${process}"]
    }
  }
}

data "aws_iam_policy_document" "registry" {
  for_each = { reader = ["s3:GetObject"], writer = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"] }

  statement {
    sid       = "List"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.registry.arn]
  }

  statement {
    sid       = "Objects"
    actions   = each.value
    resources = ["${aws_s3_bucket.registry.arn}/registry/*"]
  }

  statement {
    sid       = "Key"
    actions   = each.key == "writer" ? ["kms:Decrypt", "kms:GenerateDataKey"] : ["kms:Decrypt"]
    resources = [aws_kms_key.this.arn]
  }
}

resource "aws_iam_role" "registry" {
  for_each = data.aws_iam_policy_document.trust

  name               = "${var.name}-registry-${each.key}"
  assume_role_policy = each.value.json
}

resource "aws_iam_role_policy" "registry" {
  for_each = data.aws_iam_policy_document.registry

  name   = "registry"
  role   = aws_iam_role.registry[each.key].id
  policy = each.value.json
}
