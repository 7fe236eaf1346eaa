"""What a user does: each process starts as it does for them."""

import pytest


@pytest.fixture(autouse=True)
def cold(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process is forked from one that has imported the libraries."""
    monkeypatch.setenv("INFLIGHT_TEST_COLD", "1")
