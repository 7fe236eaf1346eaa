"""The path of one request through the topics, and results by condition."""
