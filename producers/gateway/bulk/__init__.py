"""Bulk uploads: rows as lines of JSON, of which each has its own outcome, streamed in both directions."""
