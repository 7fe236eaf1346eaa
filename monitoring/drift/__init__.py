"""Drift on the stream: windows of the prediction log, compared with each version's training data."""
