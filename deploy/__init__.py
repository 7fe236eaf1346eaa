"""Deployments: the chart, the plain manifest, Terraform, and what makes and checks them. Not part of the package."""
