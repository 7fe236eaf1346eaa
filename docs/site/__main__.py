"""`python -m docs.site [FOLDER]`: build the site, by default in build/site, and check its links."""

import json
import os
import subprocess
import sys
from pathlib import Path

from docs.site import check, stage

ROOT = Path(__file__).parents[2]


def main(out: Path) -> int:
    """Write the pages, build them, check what was built; return the exit code."""
    work = ROOT / "build" / "docs"
    stage.write(work / "pages")
    config = {
        "INHERIT": str(ROOT / "docs" / "site" / "mkdocs.yml"),
        "docs_dir": str(work / "pages"),
        "site_dir": str(out.absolute()),
        "nav": stage.nav(stage.sources()),
    }
    # JSON is YAML.
    (work / "mkdocs.yml").write_text(json.dumps(config, indent=2), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "--config-file",
        str(work / "mkdocs.yml"),
    ]
    built = subprocess.run(command, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, check=False)
    if built.returncode:
        return built.returncode
    problems = check.problems(out)
    for problem in problems:
        print(problem, file=sys.stderr)  # noqa: T201
    if not problems:
        print(f"{len(list(out.rglob('*.html')))} pages, all links lead somewhere: {out / 'index.html'}")  # noqa: T201
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "site"))
