"""Scheduling, watchdog, loaded models and metrics of a worker."""
