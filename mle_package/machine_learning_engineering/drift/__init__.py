"""Drift: reference profiles, counts by bin, statistical tests and reports."""
