"""Artifacts of Kafka and Elasticsearch from Maven Central: resolved by the Maven client, cached per user.

They are for tests and trials on the user's machine and are never redistributed.
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

from inflight.stack.process import StackError, foreign_environment

DEPENDENCY_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"
RESOLVE_SECONDS = 900
FIX = (
    "install Java 17 or newer and Maven (Debian: apt-get install default-jre-headless maven), or use the embedded stack"
)


class Artifact(NamedTuple):
    """Maven coordinates; `type` is the packaging, `without` excludes dependencies by group and name."""

    group: str
    name: str
    version: str
    type: str = "jar"
    without: tuple[tuple[str, str], ...] = ()


def missing_tools() -> list[str]:
    """The programs that the real stack needs and that are not installed."""
    return [tool for tool in ("java", "mvn") if shutil.which(tool) is None]


def cache_dir() -> Path:
    """The cache of resolved artifacts, shared by all clones."""
    if configured := os.environ.get("XDG_CACHE_HOME"):
        return Path(configured) / "inflight" / "stack"
    # Elasticsearch refuses to run as root, and another user can't read root's home.
    return Path("/var/cache/inflight/stack") if os.geteuid() == 0 else Path.home() / ".cache" / "inflight" / "stack"


def resolve_jars(name: str, artifacts: Sequence[Artifact]) -> Path:
    """A folder with these artifacts and their run-time dependencies.

    Args:
        name: the name of the folder in the cache; it must change with the artifacts.

    Raises:
        StackError: Java or Maven is missing, or Maven failed; with its output.
    """
    return cached(
        name,
        lambda folder, work: _maven(
            work, artifacts, "copy-dependencies", f"-DoutputDirectory={folder}", "-DincludeScope=runtime"
        ),
    )


def resolve_zip(name: str, artifact: Artifact) -> Path:
    """The single top folder of this zip archive, unpacked.

    Raises:
        StackError: Java or Maven is missing, or Maven failed; with its output.
    """

    def fill(folder: Path, work: Path) -> None:
        # Not the plugin's `unpack`: it drops permissions, and scripts must stay executable.
        coordinates = f"{artifact.group}:{artifact.name}:{artifact.version}:{artifact.type}"
        _maven(work, (), "copy", f"-Dartifact={coordinates}", f"-DoutputDirectory={work / 'zip'}")
        (archive,) = (work / "zip").iterdir()
        with zipfile.ZipFile(archive) as unpacked:
            unpacked.extractall(folder)
            for info in unpacked.infolist():
                # Readable for all: the server may run as another user.
                mode = (info.external_attr >> 16) & 0o777
                (folder / info.filename).chmod(mode | (0o755 if info.is_dir() else 0o644))

    (top,) = cached(name, fill).iterdir()
    return top


def cached(name: str, fill: Callable[[Path, Path], None]) -> Path:
    """A folder of the cache, filled once by `fill(folder, work)`; `work` is a temporary folder."""
    target = cache_dir() / name
    if target.is_dir():
        return target
    if missing := missing_tools():
        raise StackError(f"the real stack needs {' and '.join(missing)}, not found on PATH: {FIX}")
    target.parent.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        # A node that root starts runs as another user, whatever the umask.
        for parent in (target.parent, target.parent.parent):
            parent.chmod(0o755)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=target.parent) as temporary:
        work, folder = Path(temporary), Path(temporary) / "folder"
        folder.mkdir(mode=0o755)
        fill(folder, work)
        _open_to_all(folder)
        try:
            folder.rename(target)
        except OSError:
            # Another process resolved the same artifacts meanwhile.
            if not target.is_dir():
                raise
    return target


def _open_to_all(folder: Path) -> None:
    """Let every user read what is public anyway, whatever the umask."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | (0o055 if mode & 0o100 else 0o044))


@contextmanager
def _alone() -> Iterator[None]:
    """One Maven at a time: its download folder is not made for several processes."""
    folder = os.open(cache_dir(), os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _maven(work: Path, artifacts: Sequence[Artifact], goal: str, *options: str) -> None:
    dependencies = "".join(
        f"<dependency><groupId>{escape(a.group)}</groupId><artifactId>{escape(a.name)}</artifactId>"
        f"<version>{escape(a.version)}</version><type>{escape(a.type)}</type><exclusions>"
        + "".join(
            f"<exclusion><groupId>{escape(group)}</groupId><artifactId>{escape(name)}</artifactId></exclusion>"
            for group, name in a.without
        )
        + "</exclusions></dependency>"
        for a in artifacts
    )
    pom = work / "pom.xml"
    pom.write_text(
        "<project><modelVersion>4.0.0</modelVersion><groupId>inflight</groupId><artifactId>stack</artifactId>"
        f"<version>1</version><dependencies>{dependencies}</dependencies></project>"
    )
    # --strict-checksums: a damaged download fails here and not later in a node's log.
    command = ["mvn", "-B", "-q", "--strict-checksums", "-f", str(pom), f"{DEPENDENCY_PLUGIN}:{goal}", *options]
    try:
        with _alone():
            done = subprocess.run(
                command,
                env=foreign_environment(),
                capture_output=True,
                text=True,
                timeout=RESOLVE_SECONDS,
                check=False,
            )
    except subprocess.TimeoutExpired:
        raise StackError(f"Maven did not finish within {RESOLVE_SECONDS} s; is Maven Central reachable?") from None
    if done.returncode != 0:
        raise StackError(f"Maven could not resolve {pom.read_text()}\n{(done.stdout + done.stderr)[-2_000:]}")
