"""The wheel where a user has it: an environment of its own, with nothing of the repository on the path."""

import json
import os
import subprocess
import sys
from pathlib import Path

from deploy.release.build import ROOT, UV

EXTRAS = "archive,embedded,gateway,training"
"""What the demo shows."""


class Failed(Exception):
    """A command did not do what it should. The message has its output."""


class Bare:
    """A virtual environment in a folder, with one wheel and what it depends on, in the locked versions."""

    def __init__(self, folder: Path, wheel: Path, extras: str = "") -> None:
        self._home = folder / "home"
        self._home.mkdir(parents=True)
        self.bin = folder / "venv" / "bin"
        self._run([sys.executable, "-I", "-m", "venv", "--without-pip", str(folder / "venv")])
        wanted = f"{wheel}[{extras}]" if extras else str(wheel)
        self.uv("install", "--quiet", "--constraint", str(ROOT / "requirements.lock"), wanted)

    def uv(self, command: str, *arguments: str) -> str:
        """Run a command of `uv pip` on this environment."""
        return self._run([str(UV), "pip", command, "--python", str(self.bin / "python"), *arguments])

    def python(self, code: str) -> str:
        """What a program printed. -I: neither this folder nor the user's packages are on its path."""
        return self._run([str(self.bin / "python"), "-I", "-c", code])

    def inflight(self, *arguments: str) -> str:
        """What the command printed."""
        return self._run([str(self.bin / "inflight"), *arguments])

    def _run(self, command: list[str]) -> str:
        kept = (
            "LANG",
            "UV_",
            "PIP_",
            "SSL_",
            "REQUESTS_",
            "http_",
            "https_",
            "HTTP",
            "XDG_CACHE_HOME",
            "OPENBLAS_",
            "OMP_",
        )
        environment = {name: value for name, value in os.environ.items() if name.startswith(kept)}
        environment |= {
            "PATH": os.environ["PATH"],
            "HOME": os.environ["HOME"],
            "INFLIGHT_HOME": str(self._home / "inflight"),
        }
        done = subprocess.run(
            command, cwd=self._home, env=environment, capture_output=True, text=True, check=False, timeout=1800
        )
        if done.returncode:
            said = f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
            raise Failed(f"{' '.join([Path(command[0]).name, *command[1:]])} ended with {done.returncode}:\n{said}")
        return done.stdout


def try_product(bare: Bare, version: str, demo: bool) -> None:
    """Use the product as somebody does who has just installed it.

    Raises:
        Failed: something is not as it should be.
    """
    bare.uv("check")
    _expect(bare.inflight("--version").strip(), f"inflight {version}")
    for word in ("demo", "worker", "gateway", "health"):
        _contains(bare.inflight("--help"), word)
    # What is in site-packages under a name of ours, and where the rooms come from.
    names = "import pkgutil, sysconfig; print(*[m.name for m in pkgutil.iter_modules([sysconfig.get_path('purelib')])])"
    installed = set(bare.python(names).split())
    for room in ("model", "monitoring", "producers", "stream_app", "tests", "benchmarks"):
        if room in installed:
            raise Failed(f"`{room}` is in site-packages, where it takes the name from everybody")
    _contains(
        bare.python("import inflight, model, stream_app, monitoring; print(model.__file__)"), "inflight/rooms/model"
    )
    _contains(bare.python("from machine_learning_engineering import MLEModel; print(MLEModel)"), "MLEModel")
    if not (bare.bin.parent / "share/man/man1/inflight.1").is_file():
        raise Failed("there is no manual page")
    checks = {one["name"]: one["status"] for one in json.loads(bare.inflight("doctor", "--json"))["checks"]}
    if wrong := [name for name, status in checks.items() if status == "fail"]:
        raise Failed(f"inflight doctor: {', '.join(wrong)}")
    if demo:
        report = json.loads(bare.inflight("demo", "--limit", "2000", "--json").splitlines()[-1])
        print(f"demo: {json.dumps(report)[:400]}", file=sys.stderr)  # noqa: T201


def try_sdk(bare: Bare, example: Path) -> None:
    """Use the SDK alone, with the package of a model beside it, as a data scientist does.

    Raises:
        Failed: something is not as it should be.
    """
    bare.uv("install", "--quiet", "--constraint", str(ROOT / "requirements.lock"), str(example))
    bare.uv("check")
    bare.python("from ds_package import Wine; from machine_learning_engineering import check_model; check_model(Wine)")


def _expect(found: str, wanted: str) -> None:
    if found != wanted:
        raise Failed(f"{found!r} instead of {wanted!r}")


def _contains(found: str, wanted: str) -> None:
    if wanted not in found:
        raise Failed(f"{wanted!r} is not in {found[:500]!r}")
