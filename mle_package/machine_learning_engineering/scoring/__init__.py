"""Batch scoring: files and data frames, with the answers of the stream."""
