"""The picture: what matters is there, on the smallest terminal and for the largest stream."""

import io
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from monitoring.top.overview import DeadLetters, Drift, Indexer, Lag, Latency, Model, Overview, Process, Quality, Worker
from monitoring.top.screen import render, sparkline
from monitoring.top.sources import PROCESSES, Alert
from monitoring.top.warnings import find_warnings

FAST = Latency(0.0011, 0.0123)
SLOW = Latency(0.8, 3.2)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOTHING = Overview(
    NOW, [Process(kind, "u", "not running") for kind in PROCESSES], None, [], None, [], [], None, [], [], []
)


def busy(models: int = 3, wrong: bool = False) -> Overview:
    names = ["diamonds", "titanic", "reviews", *(f"a-model-with-a-long-name-{number}" for number in range(models))]
    found = Overview(
        NOW,
        [Process(kind, "u", "not running" if wrong and kind == "label-joiner" else "") for kind in PROCESSES],
        54_321.0,
        [
            Model(name, ["12"], 999_999.0, 50_000.0 * wrong, FAST, FAST, SLOW if wrong else FAST)
            for name in names[:models]
        ],
        Worker(54_000, 1, 0, 812.3, 3, 1_200, 0.03, 4, []),
        [Lag(f"inflight-{kind}", "prediction-logs", 1_234_567.0 * wrong, 10.0) for kind in PROCESSES],
        [DeadLetters("decode", "not_json", 1.5 * wrong, 28)],
        Indexer(12_000, 0.0, 12, 4_000),
        [Drift("diamonds", "12", "features.carat", 0.42, ["features.carat"] if wrong else [])],
        [Quality("diamonds", "12", "r2", 0.97, 0.96, 0.99, 0.98)],
        [Alert("InflightStalled", "firing", "critical", "Nothing is answered")] if wrong else [],
    )
    return msgspec.structs.replace(found, warnings=find_warnings(found))


def drawn(found: Overview, width: int = 80, height: int = 24, *, colour: bool = False) -> str:
    console = Console(
        file=io.StringIO(),
        width=width,
        height=height,
        force_terminal=colour,
        color_system="standard" if colour else None,
    )
    console.print(render(found, [1.0, 5.0, 3.0], width, height))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("wrong", [False, True])
def test_on_80_by_24_all_that_matters_is_there(wrong: bool) -> None:
    """Throughput, processes, models with their latencies, lag, the worker, dead letters, drift and quality."""
    text = drawn(busy(wrong=wrong))
    lines = text.splitlines()
    assert len(lines) < 24
    assert max(map(len, lines)) <= 80
    for words in ("54.3k requests/s", "● worker", "diamonds", "titanic", "1.1ms/12.3ms", "812/batch", "28 letters"):
        assert words in text
    for words in ("indexer: logs", "drift", "quality diamonds 12: r2 0.97", "req/s", "queue p50/p99"):
        assert words in text
    assert ("no warnings" in text) == (not wrong)
    assert ("InflightStalled" in text) == wrong
    assert ("800ms/3.2s" in text) == wrong


def test_what_is_wrong_is_red_and_what_is_well_is_not() -> None:
    """By colour alone one sees whether to look closer."""
    red = "\033[1;31m"
    assert red not in drawn(busy(), colour=True)
    wrong = drawn(busy(wrong=True), colour=True)
    assert f"{red}! InflightStalled" in wrong
    assert f"{red}3.2s" in wrong
    assert f"{red} 1.2M ↑" in wrong


def test_what_does_not_run_is_said_with_what_starts_it() -> None:
    """The commands are named after the processes; both fit into 80 columns."""
    text = drawn(NOTHING)
    assert "○ worker" in text
    assert "→ inflight NAME" in text
    assert "models need the exporter" in text
    assert "○ label-joiner → inflight NAME" in drawn(busy(wrong=True))
    well = busy()
    some = [
        msgspec.structs.replace(one, problem="not running" if one.kind == "indexer" else "") for one in well.processes
    ]
    assert "no warnings; not running: indexer" in drawn(msgspec.structs.replace(well, processes=some))


@settings(max_examples=40)
@given(st.integers(60, 200), st.integers(16, 70), st.integers(0, 40), st.booleans())
def test_it_never_grows_out_of_the_terminal(width: int, height: int, models: int, wrong: bool) -> None:
    """Whatever its size, and however many models there are; those that have no room are counted."""
    text = drawn(busy(models, wrong), width, height)
    lines = text.splitlines()
    assert len(lines) <= height - 1
    assert max(map(len, lines)) <= width


def test_a_larger_terminal_shows_more() -> None:
    """All models, where there is room."""
    assert "more" in drawn(busy(12))
    large = drawn(busy(12), 160, 60)
    assert "a-model-with-a-long-name-8" in large
    assert "more" not in large


def test_bars() -> None:
    """The last ones that fit, the highest one full."""
    assert sparkline([1, 4, 8], 2) == "▅█"
    assert sparkline([0, 0], 5) == "▁▁"
    assert sparkline([1], 0) == ""
    assert sparkline([], 5) == ""
