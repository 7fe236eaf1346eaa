"""`make image`: build the images without Docker, and say what is missing where that is impossible.

Buildah builds them on a base that debootstrap makes from Debian's packages, in place of python:3-slim, which lies on a
registry of images. Podman runs them. Root is needed. `tests/integration/test_images.py` uses them.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOOLS = {"buildah": "buildah", "podman": "podman", "runc": "runc", "debootstrap": "debootstrap", "conmon": "conmon"}
BASE = "localhost/inflight-base:bookworm"
IMAGES = {
    "serving": ("localhost/inflight:0.1.0", "deploy/docker/Dockerfile"),
    "training": ("localhost/inflight-training:0.1.0", "deploy/docker/Dockerfile"),
    "wine": ("localhost/inflight-wine:0.1.0", "ds/docker/Dockerfile"),
}
ENVIRONMENT = {**os.environ, "STORAGE_DRIVER": "vfs", "BUILDAH_ISOLATION": "chroot"}
"""Of buildah and podman: what works where the kernel or the machine allows no overlay and no namespaces of users."""
# How this machine reaches its package indexes: certificates and configuration, mounted while building, never copied.
_MOUNTED = ("/etc/ssl/certs", "/etc/pip.conf")
_UV = "system-certs = true\n"


class ImageFailed(Exception):
    """An image can't be built or run here. The message says what is missing, or has the tool's last lines."""


def missing_tools() -> list[str]:
    """Debian's packages that building and running need and that this machine lacks."""
    return [package for tool, package in TOOLS.items() if shutil.which(tool, path=_path()) is None]


def install_tools() -> None:
    """Install what is missing.

    Raises:
        ImageFailed: this is not Debian, or not root.
    """
    if not (missing := missing_tools()):
        return
    if os.geteuid() or shutil.which("apt-get") is None:
        raise ImageFailed(f"missing: {', '.join(missing)}. As root on Debian this command installs them")
    _say(f"installing {' '.join(missing)}")
    _run("apt-get", "update", "-qq")
    _run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing)


def exists(image: str) -> bool:
    """Whether an image is there."""
    command = ["buildah", "inspect", "--type", "image", image]
    return not subprocess.run(command, env=ENVIRONMENT, capture_output=True, check=False).returncode


def build_base() -> None:
    """Make an image of Debian with Python alone, from the packages that this machine installs from."""
    if exists(BASE):
        return
    _say("making a base with debootstrap")
    with tempfile.TemporaryDirectory(prefix="inflight-base-") as scratch:
        root = Path(scratch) / "root"
        included = "--include=python3,python3-venv,ca-certificates"
        _run("debootstrap", "--variant=minbase", included, "bookworm", str(root))
        _run("tar", "--numeric-owner", "-C", str(root), "-cf", f"{scratch}/root.tar", ".")
        container = _run("buildah", "from", "scratch").strip()
        try:
            _run("buildah", "add", "--quiet", container, f"{scratch}/root.tar", "/")
            _run("buildah", "commit", "--quiet", container, BASE)
        finally:
            _run("buildah", "rm", container)


def build(target: str) -> str:
    """Build an image from the Dockerfile; its name."""
    name, file = IMAGES[target]
    _say(f"building {name}")
    command = ["buildah", "bud", "--quiet", "--format", "docker", "--file", file, "--tag", name]
    command += ["--ignorefile", f"{file}.dockerignore", "--build-arg", f"BASE={BASE}"]
    if target == "wine":
        command += ["--build-arg", f"INFLIGHT={IMAGES['training'][0]}"]
    else:
        revision = _run("git", "rev-parse", "HEAD").strip()
        command += ["--target", target, "--build-arg", f"REVISION={revision}"]
    for path in _MOUNTED:
        if Path(path).exists():
            command += ["--volume", f"{path}:{path}:ro"]
    with tempfile.TemporaryDirectory(prefix="inflight-uv-") as folder:
        (Path(folder) / "uv.toml").write_text(_UV)
        _run(*command, "--volume", f"{folder}:/etc/uv:ro", ".")
    return name


def configuration(image: str) -> dict[str, object]:
    """How the image says it is run."""
    found: dict[str, object] = json.loads(_run("buildah", "inspect", "--type", "image", image))["Docker"]["config"]
    return found


def size(image: str) -> int:
    """Bytes of the unpacked image."""
    return int(json.loads(_run("podman", "image", "inspect", image))[0]["Size"])


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def _run(*command: str) -> str:
    done = subprocess.run(
        command, cwd=ROOT, env=ENVIRONMENT | {"PATH": _path()}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-30:])
        raise ImageFailed(f"{shlex.join(command[:4])} ... ended with {done.returncode}:\n{said}")
    return done.stdout


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - progress


def main(arguments: Sequence[str] | None = None) -> None:
    """Build the images that are named, all by default."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.docker.image", description="Build the images without Docker."
    )
    parser.add_argument(
        "targets", nargs="*", choices=[*IMAGES, []], default=list(IMAGES), help="serving, training, wine"
    )
    given = parser.parse_args(arguments)
    try:
        install_tools()
        build_base()
        for target in given.targets:
            name = build(target)
            print(f"{name}  {size(name) / 1e6:.0f} MB")  # noqa: T201 - the result
    except ImageFailed as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
