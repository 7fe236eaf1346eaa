"""Scoring, pure: no Kafka, no Faust."""
