"""Estimators for single rows."""
