"""`python -m deploy.release`: build the distributions, check them, use them as somebody who has just installed them."""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import typer.main

from deploy.release.bare import EXTRAS, Bare, Failed, try_product, try_sdk
from deploy.release.build import ROOT, NotReproducible, build, moment
from deploy.release.contents import problems
from deploy.release.man import manual_page
from inflight.cli import app
from machine_learning_engineering.core.version import __version__


def main() -> None:
    """Read the arguments; a failure is one message and exit code 1."""
    parser = argparse.ArgumentParser(prog="python -m deploy.release", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    man = commands.add_parser("man", help="write the manual page, generated from the help of each command")
    man.add_argument("target", nargs="?", type=Path, default=ROOT / "man" / "inflight.1")
    check = commands.add_parser("check", help="build into dist/, check what is in it, install it elsewhere and use it")
    check.add_argument("--dist", type=Path, default=ROOT / "dist", help="folder of the distributions")
    check.add_argument("--no-demo", action="store_true", help="leave out the demo, which takes a minute or two")
    given = parser.parse_args()
    page = manual_page(typer.main.get_command(app), __version__, moment())
    if given.command == "man":
        given.target.parent.mkdir(parents=True, exist_ok=True)
        given.target.write_text(page, encoding="utf-8")
        return
    try:
        _check(given.dist, page, demo=not given.no_demo)
    except (NotReproducible, Failed) as error:
        sys.exit(f"error: {error}")


def _check(dist: Path, page: str, demo: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="inflight-release-") as scratch:
        folder = Path(scratch)
        _say("building twice")
        built = build(folder, page)
        _say("reading what was built")
        if found := list(problems(built)):
            raise Failed("\n".join(found[:30]))
        _say("installing and using the product")
        try_product(Bare(folder / "product", built.wheel, EXTRAS), __version__, demo)
        _say("installing and using the SDK alone")
        try_sdk(Bare(folder / "sdk", built.sdk_wheel), built.example)
        dist.mkdir(exist_ok=True)
        for path in built.published:
            shutil.copy(path, dist)
            print(dist / path.name, f"{path.stat().st_size / 1000:.0f} kB")  # noqa: T201 - the result


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - progress


if __name__ == "__main__":
    main()
