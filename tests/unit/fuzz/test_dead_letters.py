"""Dead letters: their origin, their readers, their replay and its journal."""

from pathlib import Path
from typing import Any

import hypothesis
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from inflight.rendering import render, render_line
from inflight.settings import Settings
from machine_learning_engineering.core import files
from machine_learning_engineering.dead_letters import reader
from machine_learning_engineering.dead_letters.letter import (
    MAX_LETTER_BYTES,
    DeadLetterOrigin,
    dead_letter,
    read_origin,
    without_origin,
)
from machine_learning_engineering.events.headers import header_size
from monitoring.exporter.metrics import ExporterMetrics
from monitoring.exporter.observer import Observer
from monitoring.indexer.batch import Batch
from monitoring.indexer.projections import PROJECTIONS
from producers.dead_letter_replay import replay
from producers.journal import Entry, Journal
from tests.support import fuzz_corpus as corpus
from tests.support.fuzzing import bounded, check_message, check_terminal, dose, mutated

DOORS = (
    "mle_package/machine_learning_engineering/dead_letters/letter.py:read_origin",
    "mle_package/machine_learning_engineering/dead_letters/reader.py:select",
    "monitoring/indexer/projections.py:dead_letter_entries",
    "producers/journal.py:Journal.__init__",
)
ORIGIN = DeadLetterOrigin("not_json", "why", "decode", "prediction-requests", 3, 40, "houses", "r-1")
LONG = 2**63

names = st.sampled_from(["dlq_" + field for field in DeadLetterOrigin._fields] + ["traceparent", "ce_source", "h"])
contents = (
    st.none()
    | st.binary(max_size=40)
    | st.sampled_from(
        [b"0", b"-1", b"1" * 30, b"9" * 5_000, "١٢".encode(), b" 7 ", b"1_000", b"\xff", b"\x1b[31m", b"x" * 9_000]
    )
)
incoming = st.lists(st.tuples(names, contents), max_size=5)
timestamps = st.sampled_from([(2, corpus.MILLISECONDS), (1, 0), (0, -1), (1, 2**62), (1, -(2**62))])


@dose(50)
@given(before=incoming, value=st.none() | st.binary(max_size=50), key=st.none() | st.binary(max_size=9))
def test_a_replay_gets_back_what_was_sent(before: Any, value: Any, key: Any) -> None:
    key_again, value_again, headers = dead_letter(ORIGIN, key, value, before)
    assert read_origin(headers) == ORIGIN
    assert (key_again, value_again, without_origin(headers)) == (key, value, before)
    assert len(key or b"") + len(value or b"") + sum(map(header_size, headers)) <= MAX_LETTER_BYTES


@dose(83)
@given(before=incoming, changed=incoming, timestamp=timestamps, value=st.none() | st.binary(max_size=200))
@hypothesis.example(before=[], changed=[("dlq_offset", b"1" * 30)], timestamp=(2, corpus.MILLISECONDS), value=b"")
@hypothesis.example(before=[], changed=[("dlq_partition", b"9" * 4_000)], timestamp=(2, corpus.MILLISECONDS), value=b"")
@hypothesis.example(before=[], changed=[("dlq_truncated", b"1" * 30)], timestamp=(2, corpus.MILLISECONDS), value=b"")
def test_readers_take_a_dead_letter_or_pass_over_it(
    before: Any, changed: Any, timestamp: Any, value: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _, _, headers = dead_letter(ORIGIN, None, value, before)
    record = corpus.message("prediction-dead-letters", value, headers=[*headers, *changed], timestamp=timestamp)
    batch = Batch(PROJECTIONS)
    observer = Observer(ExporterMetrics(CollectorRegistry()))
    monkeypatch.setattr(reader, "read_to_end", lambda *_, **__: iter([record]))
    settings = Settings(_env_file=None, home=tmp_path)  # type: ignore[call-arg]
    with bounded(len(value or b"") + 20_000):
        batch.add(record)
        observer.observe_dead_letter_record(record.headers())
        found = list(reader.select(settings))
        report = replay(settings, found, dry_run=True)
    assert len(batch.entries) + len(batch.dead_letters) == 1
    for entry in batch.entries:
        fields = msgspec.json.decode(entry.document)["inflight"]["dead_letter"]
        assert all(-LONG <= fields[name] < LONG for name in ("partition", "offset", "size")), fields
    for letter in batch.dead_letters:
        check_message(letter.explanation)
    assert report.accepted + report.unknown_topic + report.truncated == len(found) <= 1
    for one in found:
        check_terminal(render_line(f"{one.origin.reason} {one.origin.message} {one.origin.topic}"))
        check_terminal(render(one.value))
        assert -1 <= one.origin.offset < LONG


@dose(13)
@given(content=mutated([b"".join(msgspec.json.encode(Entry("t", n, 40, 1, corpus.NOW)) + b"\n" for n in range(3))]))
def test_a_damaged_journal_forgets_at_most_its_damaged_lines(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    files.write(path, content)
    with bounded(len(content)):
        journal = Journal(path)
        journal.add([("t", 9, 9, 9)])
        again = Journal(path)
    assert ("t", 9, 9, 9) in again
    assert all(position in again for position in journal._positions)
