"""Adapters between the packages: evaluator, models, logs and promotions."""
