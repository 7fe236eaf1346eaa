"""The sample of a busy model: bounded, the same for every reader, and not chosen by senders."""

from datetime import UTC, datetime, timedelta
from zlib import crc32

from msgspec import Raw

from monitoring.drift.batch import Row
from monitoring.drift.sampling import SampleBudget, sample

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SPENT = SampleBudget(0.0, NOW - timedelta(seconds=1))


def _rows(ids: list[str]) -> list[Row]:
    return [Row(offset, NOW, name, Raw(b"{}"), Raw(b"{}"), ()) for offset, name in enumerate(ids)]


def test_no_choice_of_request_ids_fills_the_sample() -> None:
    """Of 20 % of the rows with ids that were searched for, about 20 % are in it."""
    low = sorted((f"order-{number}" for number in range(20_000)), key=lambda name: crc32(name.encode()))[:200]
    run = _rows([low[number // 5] if number % 5 == 0 else f"honest-{number}" for number in range(1_000)])
    found, _ = sample(SPENT, run, 200.0)
    assert len(found) == 200
    assert 20 <= sum(row.request_id in low for row in found) <= 60


def test_every_reader_samples_the_same_rows() -> None:
    """In order; whatever their ids are."""
    first, _ = sample(SPENT, _rows([f"a{number}" for number in range(1_000)]), 200.0)
    second, _ = sample(SPENT, _rows([f"b{number}" for number in range(1_000)]), 200.0)
    assert [row.offset for row in first] == [row.offset for row in second] == sorted(row.offset for row in first)
