"""What a scoring has done so far, in its folder: the run in ``_manifest.json``, and each part in ``_parts/``.

A part is finished when its record is there, which is written last. So after a crash at any moment, a part is either
finished or made again, and the rows of a part depend on the input alone.
"""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct

from machine_learning_engineering.core import files
from machine_learning_engineering.scoring.inputs import InputFile

RecordT = TypeVar("RecordT", bound=Struct)

__all__ = ["Journal", "Labelled", "OutputRefused", "PartRecord", "RunRecord"]

MANIFEST, SUMMARY, PARTS, REFUSED = "_manifest.json", "_summary.json", "_parts", "_refused"
OutputFormat = Literal["parquet", "jsonl", "csv"]


class OutputRefused(ValueError):
    """The output can't be written or continued. The message names the folder and the fix."""


class RunRecord(Struct, frozen=True):
    """What is scored: the model, the inputs in order, and the options that determine the output."""

    model: str
    version: str
    model_sha256: str
    inputs: list[InputFile]
    format: OutputFormat
    keep: list[str] | None
    kept: list[str]
    label: str
    batch_rows: int
    part_rows: int


class Labelled(Struct, frozen=True, array_like=True):
    """A prediction with its label, as JSON values. Those with the smallest `draw` of a run are its random sample."""

    draw: int
    prediction: Any
    label: Any


class PartRecord(Struct, frozen=True):
    """A finished part: rows `first` to ``first + rows - 1`` of an input, counted from 0.

    `reasons` counts refused rows by message. `last` says that the input ends here.
    """

    input: int
    first: int
    rows: int
    refused: int
    size: int
    last: bool
    reasons: dict[str, int] = {}
    labelled: list[Labelled] = []

    @property
    def name(self) -> str:
        """Name of its files, without ending."""
        return part_name(self.input, self.first)


def part_name(number: int, first: int) -> str:
    """Name of the part of an input that begins at a row, counted from 0."""
    return f"part-{number:05}-{first:012}"


class Journal:
    """The folder of a scoring. Only one process at a time has it open, see `opened`.

    Args:
        folder: The output.
        run: What is scored.
    """

    def __init__(self, folder: Path, run: RunRecord) -> None:
        self.folder = folder
        self.run = run

    @contextmanager
    def opened(self, *, resume: bool) -> Iterator[None]:
        """Continue the run in the folder, or begin one.

        Args:
            resume: False to remove the parts of another run first.

        Raises:
            OutputRefused: Another process writes there, the folder has files of others, or another run was begun there.
        """
        self._check_empty()
        files.make_folder(self.folder)
        lock = files.open_private(self.folder / ".lock", os.O_RDWR | os.O_CREAT)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise OutputRefused(f"{self.folder}: another process scores into it: wait for it") from None
            self._begin(resume)
            yield
        finally:
            os.close(lock)

    def _check_empty(self) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise OutputRefused(f"{self.folder} is a file: give a folder with -o")
        known = {".lock", MANIFEST, PARTS, REFUSED}
        if self.folder.is_dir() and not (self.folder / MANIFEST).exists():
            others = [one.name for one in self.folder.iterdir() if one.name not in known and not _is_partial(one)]
            if others:
                raise OutputRefused(f"{self.folder} has other files, such as {min(others)}: give a new folder with -o")

    def _begin(self, resume: bool) -> None:
        for folder in (self.folder, self.folder / PARTS, self.folder / REFUSED):
            for left in folder.glob(".partial-*"):  # A killed process left it.
                left.unlink()
        path = self.folder / MANIFEST
        if path.exists():
            if resume:
                self._require_same(path)
                return
            (self.folder / SUMMARY).unlink(missing_ok=True)
            for pattern in ("part-*", f"{PARTS}/part-*", f"{REFUSED}/part-*"):
                for old in self.folder.glob(pattern):
                    old.unlink()
        for name in (PARTS, REFUSED):
            files.make_folder(self.folder / name)
        files.replace(path, msgspec.json.format(msgspec.json.encode(self.run), indent=2))

    def _require_same(self, path: Path) -> None:
        begun = read_run(path)
        new = self.run
        again = "give a new folder with -o, or begin again with --no-resume"
        if (begun.model, begun.version) != (new.model, new.version):
            raise OutputRefused(
                f"{self.folder} was begun with {begun.model} {begun.version}, not {new.model} {new.version}: "
                f"go on with --model {begun.model}:{begun.version}, {again}"
            )
        if begun.model_sha256 != new.model_sha256:
            raise OutputRefused(
                f"{self.folder} was begun with another {new.model} {new.version}, of another registry: {again}"
            )
        before = {one.path: one for one in begun.inputs}
        for file in new.inputs:
            if (old := before.get(file.path)) is None:
                raise OutputRefused(f"{self.folder} was begun without {file.path}: {again}")
            if old != file:
                raise OutputRefused(f"{self.folder}: {file.path} has changed since it was begun: {again}")
        if [one.path for one in begun.inputs] != [one.path for one in new.inputs]:
            missing = set(before) - {file.path for file in new.inputs}
            what = f"with {min(missing)}, which is not among the inputs now" if missing else "in another order"
            raise OutputRefused(f"{self.folder} was begun {what}: name the same inputs, {again}")
        for name in ("format", "keep", "kept", "label", "batch_rows", "part_rows"):
            if getattr(begun, name) != getattr(new, name):
                option = f"--{name.replace('_', '-')}"
                raise OutputRefused(f"{self.folder} was begun with another {option}: {again}")

    def finished(self) -> list[PartRecord]:
        """Finished parts, in order. One whose file is not as it was written is left out, and made again."""
        found = []
        for path in sorted((self.folder / PARTS).glob("part-*.json")):
            record = read_part(path)
            output = self.folder / f"{record.name}.{self.run.format}"
            if record.name == path.stem and output.is_file() and output.stat().st_size == record.size:
                found.append(record)
        return found

    def finish(self, record: PartRecord) -> None:
        """Record a part whose files are written."""
        files.replace(self.folder / PARTS / f"{record.name}.json", msgspec.json.encode(record))

    def write_refused(self, name: str, lines: Sequence[bytes]) -> None:
        """Write the refused rows of a part, or remove those of an earlier attempt."""
        path = self.folder / REFUSED / f"{name}.jsonl"
        if lines:
            files.replace(path, b"".join(lines))
        else:
            path.unlink(missing_ok=True)


def read_run(path: Path) -> RunRecord:
    """Read the manifest of a folder.

    Raises:
        OutputRefused: It is damaged.
    """
    return _read(path, RunRecord, "begin again with --no-resume")


def read_part(path: Path) -> PartRecord:
    """Read the record of a part.

    Raises:
        OutputRefused: It is damaged.
    """
    return _read(path, PartRecord, "remove it, and the part is made again")


def _read(path: Path, kind: type[RecordT], fix: str) -> RecordT:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (ValueError, RecursionError) as error:
        raise OutputRefused(f"{path} is damaged ({error!s:.200}): {fix}") from error


def _is_partial(path: Path) -> bool:
    return path.name.startswith(".partial-")
