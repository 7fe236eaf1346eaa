"""The gateway's look into Elasticsearch: requests don't wait for one that keeps failing."""

import asyncio
from pathlib import Path

import pytest

from inflight.adapters import history
from inflight.adapters.history import MAX_FAILURES, IndexHistory
from inflight.settings import Settings
from producers.gateway.stream import HistoryUnavailable, StoredPrediction


class Failing(IndexHistory):
    """Counts searches, which fail while `is_away`."""

    searches = 0
    is_away = True

    def _find(self, request_ids: list[str]) -> dict[str, StoredPrediction]:
        self.searches += 1
        if self.is_away:
            raise HistoryUnavailable("away")
        return {}


def test_after_some_failures_one_search_looks_whether_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000.0
    monkeypatch.setattr("inflight.adapters.history.time.monotonic", lambda: now)
    found = Failing(Settings(_env_file=None, home=tmp_path))  # type: ignore[call-arg]

    async def ask(times: int) -> int:
        """How many of these searches say that there is no answer."""
        results = await asyncio.gather(*(found.find(["r"]) for _ in range(times)), return_exceptions=True)
        return sum(isinstance(one, HistoryUnavailable) for one in results)

    for _ in range(MAX_FAILURES):
        assert asyncio.run(ask(1)) == 1
    assert asyncio.run(ask(10)) == 10
    assert found.searches == MAX_FAILURES
    now += history.PAUSE_SECONDS
    assert asyncio.run(ask(10)) == 10
    assert found.searches == MAX_FAILURES + 1, "one looks for all"
    found.is_away = False
    now += history.PAUSE_SECONDS
    assert asyncio.run(ask(1)) == 0
    assert asyncio.run(ask(10)) == 0
    assert found.searches == MAX_FAILURES + 12
