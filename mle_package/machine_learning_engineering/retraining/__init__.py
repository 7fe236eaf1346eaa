"""Retraining: evidence from the prediction log, and the decision."""
