"""`inflight score`: what it prints, as text and as JSON, and how it ends."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from inflight.commands import score
from machine_learning_engineering.registry.registry import Registry
from tests.support.line_model import run, run_json

pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def numbers(tmp_path: Path, line_registry: Registry) -> Path:
    """A file with a row that is refused."""
    path = tmp_path / "numbers.csv"
    path.write_text("id,number,true\na,1,2\nb,2,4\nc,,6\nd,3,6.5\n")
    return path


def test_the_champion_scores_a_file_and_says_what_it_did(numbers: Path, tmp_path: Path) -> None:
    out = run("score", str(numbers), "--model", "line", "-o", "scored", "--label", "true")
    assert "line v2: 3 of 4 rows scored" in out
    assert "carried through: id, true" in out
    assert "on 3 labelled rows" in out
    assert "1 rows refused, see scored/_refused:\n  1: feature `number` is missing: it must be a number" in out
    rows = pq.read_table(tmp_path / "scored").to_pylist()
    assert [(one["id"], one["input_row"]) for one in rows] == [("a", 2), ("b", 3), ("d", 5)]
    again = run_json("score", str(numbers), "--model", "line", "-o", "scored", "--label", "true")
    assert (again["resumed"], again["rows"], again["refused"]) == (4, 4, 1)
    assert json.loads((tmp_path / "scored/_summary.json").read_bytes())["rows"] == 4


def test_versions_and_formats_are_chosen(numbers: Path, tmp_path: Path) -> None:
    out = ("-m", "line@challenger", "-o", "other", "--format", "jsonl", "--keep", "id", "--batch-rows", "2")
    assert run_json("score", str(numbers), *out)["version"] == "v3"
    line = json.loads((tmp_path / "other/part-00000-000000000000.jsonl").read_text().splitlines()[0])
    assert (line["id"], "true" in line, line["prediction"]["answer"]) == ("a", False, pytest.approx(3, abs=1))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nothing.parquet"], 2, "error: nothing.parquet: there is no such file"),
        (["numbers.csv", "--model", "lime"], 2, "no model is named lime: there are line"),
        (["numbers.csv", "--model", "line:v9"], 2, "error: model `line` has no version or alias 'v9'"),
        (["numbers.csv", "--model", "line:v1"], 2, "was begun with line v2, not line v1: go on with --model line:v2"),
        (["numbers.csv", "--keep", "x"], 2, "error: no input has a column `x` (--keep)"),
        (["numbers.csv", "--format", "xml"], 2, "'xml' is not one of"),
        (["bad.csv", "--output", "bad"], 1, "error: no row could be scored"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, list) else "",
)
def test_what_can_not_be_done_is_one_line(
    numbers: Path, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    (tmp_path / "bad.csv").write_text("number\nx\n")
    run("score", str(numbers), "--model", "line", "-o", "scored")
    given = [arguments[0], "--model", "line", "--output", "scored", *arguments[1:]]
    errors = run("score", *given, code=code)
    assert message in " ".join(errors.replace("│", " ").split())


def test_another_model_begins_again_when_asked_to(numbers: Path) -> None:
    run("score", str(numbers), "--model", "line", "-o", "scored")
    assert run_json("score", str(numbers), "--model", "line:v1", "-o", "scored", "--no-resume")["version"] == "v1"


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_shown_on_a_terminal_alone(terminal: bool) -> None:
    shown = io.StringIO()
    with score._progress(Console(file=shown, force_terminal=terminal, width=100)) as report:
        report(0.5, 1_234)
    assert ("1,234 rows" in shown.getvalue()) == terminal
    assert ("50%" in shown.getvalue()) == terminal
