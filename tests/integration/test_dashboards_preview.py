"""Every board as a picture, from the answers of a real search node to its queries."""

import json
import struct
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from docs.pictures.preview.command import preview as command
from docs.pictures.preview.compose import size
from inflight.settings import Settings
from inflight.stack.maven import missing_tools
from monitoring.dashboards.source import load_all, shipped
from monitoring.elastic.client import connect
from monitoring.elastic.templates import put_templates
from tests.support.dashboard_documents import feed, forget
from tests.support.doses import FULL

SOME = ("inflight-serving", "inflight-drift", "inflight-diamonds")
app = typer.Typer()
app.command()(command)


@pytest.fixture(scope="module")
def settings(nodes: Callable[[str, str], Any]) -> Iterator[Settings]:
    """Settings of a real search node with an hour of documents of all families."""
    if tools := missing_tools():
        pytest.skip(f"no real node without {' and '.join(tools)}")
    found = Settings(_env_file=None, elasticsearch_url=nodes("search", "real").url)  # type: ignore[call-arg]
    with connect(found) as client:
        forget(client)
        put_templates(client, found)
        feed(client, datetime.now(UTC), 360)
        yield found
        forget(client)


@pytest.fixture
def preview(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """Run the command; its exit code, output and errors."""
    monkeypatch.setattr("inflight.settings.load_settings", lambda: settings)

    def run(*arguments: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(app, list(arguments))
        return result.exit_code, result.stdout, result.stderr

    return run


def test_every_board_is_drawn(preview: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    """As a PNG of the size that its panels take, with results in every panel. Three boards, all in the full dose."""
    boards = [board for board in load_all() if FULL or board.id in SOME]
    names = [board.id.removeprefix("inflight-") for board in boards]
    options = ("--since", "now-1h", "--scale", "0.5", "--strict", "--json")
    code, told, errors = preview(*names, "--out", str(tmp_path), *options)

    assert code == 0, errors
    drawn = {one["dashboard"]: one for one in json.loads(told)["pictures"]}
    assert set(drawn) == {board.id for board in boards}
    for board in boards:
        picture = Path(drawn[board.id]["file"]).read_bytes()
        assert picture[:8] == b"\x89PNG\r\n\x1a\n"
        width, height = struct.unpack(">II", picture[16:24])
        assert (width, height) == pytest.approx([side / 2 for side in size(board)], abs=1)
        # More than one plain color.
        assert len(picture) > 20_000


def test_a_board_without_documents_says_so(preview: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    """By name, and with exit code 1 for who asks for it."""
    arguments = ["serving", "--out", str(tmp_path), "--since", "2020-01-01", "--until", "2020-01-02", "--scale", "0.5"]

    lenient = preview(*arguments, "--svg")
    strict = preview(*arguments, "--strict")

    assert lenient[0] == 0
    assert "no results: inflight-serving:" in lenient[2]
    assert "outcomes" in lenient[2]
    assert strict[0] == 1
    assert (tmp_path / "serving.svg").read_text().count("no results") >= 5


def test_a_refused_query_is_told(preview: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    """By board and panel, in the search node's words, and the picture is there all the same."""
    source = (shipped() / "serving.toml").read_text().replace("MAX(inflight.completed_at)", "MAX(nonsense)")
    (tmp_path / "mine.toml").write_text(source)

    code, told, errors = preview("--out", str(tmp_path), "--folder", str(tmp_path), "--since", "now-1h")

    assert code == 1
    assert "error: inflight-serving/by-model: " in errors
    assert "Unknown column [nonsense]" in errors
    assert Path(told.strip()).exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nonsense"], "no dashboard nonsense: there are inflight-dead-letters"),
        (["--since", "yesterday"], "'yesterday' is not a time"),
        (["--since", "now", "--until", "now-1h"], "the time range ends before it begins"),
    ],
)
def test_wrong_arguments_are_named(
    preview: Callable[..., tuple[int, str, str]], tmp_path: Path, arguments: list[str], expected: str
) -> None:
    """With what to write instead."""
    code, _, errors = preview(*arguments, "--out", str(tmp_path))

    assert code == 2
    assert expected in errors
