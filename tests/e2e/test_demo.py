"""The demo as a user runs it: the command, its exit code and its last line."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from inflight.demo.bad_records import bad_records
from inflight.stack.maven import missing_tools

DIAMONDS = 1_500
PASSENGERS = 891
SAME_ID = 3
OVER_HTTP = 1_000


def run_demo(home: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, summary, and what was printed for people."""
    done = subprocess.run(
        [sys.executable, "-m", "inflight.cli", "demo", "--json", "--limit", str(DIAMONDS), *arguments],
        # Nodes that live for a minute spend most of it on compiling code.
        env={**os.environ, "INFLIGHT_HOME": str(home), "JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"},
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout.splitlines()[-1]), done.stderr


@pytest.mark.parametrize("stack", ["embedded", "real"])
def test_every_request_of_the_demo_has_exactly_one_outcome_and_is_indexed(stack: str, tmp_path: Path) -> None:
    """The numbers are known beforehand: all rows, each bad record as its list says, and one id used three times."""
    if stack == "real" and missing_tools():
        pytest.skip(f"{' and '.join(missing_tools())} missing: no real broker and search node on this machine")

    code, summary, printed = run_demo(tmp_path, "--stack", stack)

    bad = bad_records("x")
    dead_letters = sum(record.is_dead_letter for record in bad)
    good = DIAMONDS + PASSENGERS + SAME_ID + OVER_HTTP
    assert code == 0, printed
    assert summary["accepted"] == good + len(bad)
    assert summary["completed"] == good
    assert summary["failed"] == len(bad) - dead_letters
    assert summary["dead_letters"] == dead_letters
    assert summary["results_seen"] == summary["completed"] + summary["failed"]
    # One id was used three times, so it has one document: the first. The same body again is no conflict.
    assert summary["indexed_distinct"] == summary["results_seen"] - (SAME_ID - 1)
    assert (summary["conflicts"], summary["index_dead_letters"]) == (1, 1)
    assert (summary["lost"], summary["duplicates"], summary["orphans"], summary["unindexed"]) == (0, 0, 0, 0)
    assert summary["archived"] == summary["indexed_distinct"]
    assert 0 < summary["p50_ms"] <= summary["p99_ms"]
    assert summary["rate_per_s"] > 0
    assert (summary["http_accepted"], summary["http_completed"]) == (OVER_HTTP, OVER_HTTP)
    assert summary["http_p99_ms"] > 0
    assert "Replaying" in printed


def test_help_is_there_at_once_with_an_example() -> None:
    """Heavy imports wait until they are needed: scikit-learn alone takes seconds."""
    heavy = {"sklearn", "faust", "numpy", "elasticsearch", "confluent_kafka", "kafka", "pydantic"}
    program = f"import sys, inflight.cli; print(sorted({heavy} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    helped = subprocess.run([sys.executable, "-m", "inflight.cli", "demo", "--help"], capture_output=True, text=True)
    assert loaded.stdout.strip() == "[]"
    assert helped.returncode == 0
    assert "Examples: inflight demo" in helped.stdout
