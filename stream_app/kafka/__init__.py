"""Polling, offsets and publishing over librdkafka."""
