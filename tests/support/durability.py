"""What the embedded nodes do not promise."""

import pytest

needs_durable_nodes = pytest.mark.needs_real(
    reason="kill -9 of an embedded node loses what it acknowledged, see docs/promise.md"
)
"""For tests that kill the main broker or search node, and then count."""
