"""The files of GitHub Actions under linters that are not ours."""

import subprocess

from deploy.generate import ROOT
from tests.support.tools import run, tool

FOLDER = ROOT / ".github"


def test_actionlint_finds_nothing(tmp_path) -> None:
    program = tool("actionlint", "workflows")
    run(program, "-no-color", "-config-file", FOLDER / "actionlint.yaml", *sorted((FOLDER / "workflows").glob("*.yml")))
    wrong = tmp_path / "wrong.yml"
    wrong.write_text("on: push\njobs: {a: {runs-on: ubuntu-24.04, steps: [{run: 'echo ${{ github.nothing }}'}]}}\n")
    assert subprocess.run([program, str(wrong)], capture_output=True).returncode == 1


def test_zizmor_finds_nothing() -> None:
    program = tool("zizmor-env/bin/zizmor", "workflows")
    run(program, "--offline", "--no-progress", "--persona=pedantic", FOLDER)
