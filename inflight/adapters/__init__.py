"""Adapters that join the rooms: evaluators, models, logs and promotions."""
