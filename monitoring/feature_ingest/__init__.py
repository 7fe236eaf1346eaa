"""Feeding the feature store from the stream."""
