"""Broker and Elasticsearch on this machine without Docker: the embedded node, or Apache Kafka and Elasticsearch."""

from inflight.stack.process import StackError
from inflight.stack.stack import Endpoints, Kind, Stack, StackState, start_stack

__all__ = ["Endpoints", "Kind", "Stack", "StackError", "StackState", "start_stack"]
