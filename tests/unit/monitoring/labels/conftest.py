"""Elasticsearch, and a label joiner that writes to it."""

import pytest

from tests.support.label_joining import Joining, Node


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
def joining(node: Node) -> Joining:
    return Joining(node)
