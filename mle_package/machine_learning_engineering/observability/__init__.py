"""The service log, redaction and trace context."""
