"""Processes that publish prediction requests: they know events, nothing of models."""
