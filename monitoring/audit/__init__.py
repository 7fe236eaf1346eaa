"""The audit: every accepted request has exactly one outcome."""
