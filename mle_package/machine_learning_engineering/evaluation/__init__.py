"""Evaluation: metrics, splits, estimates with intervals, and permutation tests."""
