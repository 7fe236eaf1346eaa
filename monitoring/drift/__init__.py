"""Drift on the stream: windows of the log are compared with what each version was trained on."""
