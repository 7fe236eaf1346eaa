"""The Terraform files: format, syntax, what is declared and used, and Checkov. Nothing is applied."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from deploy.generate import CHART, ROOT
from tests.support.tools import run, tool

FOLDER = ROOT / "deploy" / "terraform" / "aws"
TEXT = "\n".join(file.read_text() for file in sorted(FOLDER.glob("*.tf")))


def test_the_format_is_that_of_tofu(tmp_path: Path) -> None:
    """Which reads the syntax too."""
    tofu = tool("tofu", "terraform")
    run(tofu, f"-chdir={FOLDER}", "fmt", "-check", "-diff")
    (tmp_path / "wrong.tf").write_text('variable "x" {\n  type = string\n')
    assert subprocess.run([tofu, f"-chdir={tmp_path}", "fmt", "-check"], capture_output=True).returncode != 0


def test_what_is_used_is_declared_and_the_other_way_round() -> None:
    """No program is needed for this one."""
    variables = set(re.findall(r'(?m)^variable "(\w+)"', TEXT))
    assert variables == set(re.findall(r"\bvar\.(\w+)", TEXT))
    resources = set(re.findall(r'(?m)^resource "(\w+)" "(\w+)"', TEXT))
    data = set(re.findall(r'(?m)^data "(\w+)" "(\w+)"', TEXT))
    code = re.sub(r"(?m)#.*$", "", TEXT)
    assert set(re.findall(r"\bdata\.(\w+)\.(\w+)", code)) == data
    used = set(re.findall(r"(?<![.\w])((?:aws|random|helm|kubernetes)_\w+)\.(\w+)", code))
    assert used <= resources, used - resources
    declared = set(re.findall(r"(?m)^  (\w+)\s*=", code))
    assert set(re.findall(r"\blocal\.(\w+)", code)) <= declared


def test_variables_and_outputs_say_what_they_are() -> None:
    for kind in ("variable", "output"):
        for block in re.findall(rf'(?ms)^{kind} "\w+" {{.*?^}}', TEXT):
            assert re.search(r'description = ".{10,}"', block), block
    for block in re.findall(r'(?ms)^output "\w+" {.*?^}', TEXT):
        assert ("sensitive" in block) == ("random_password" in block or "archive_url" in block), block


def test_the_roles_are_those_of_the_processes_that_open_the_registry() -> None:
    table = yaml.safe_load((CHART / "files" / "processes.yaml").read_text())
    for local, need in (("readers", "registry"), ("writers", "registry-write")):
        names = set(re.findall(r'"([\w-]+)"', re.search(rf"(?m)^  {local} = \[(.*)\]$", TEXT)[1]))
        assert names == {name for name, one in table.items() if need in one["needs"]}


def test_the_values_are_those_of_the_chart(tmp_path: Path) -> None:
    """Keys that the schema would refuse."""
    schema = (CHART / "values.schema.json").read_text()
    block = TEXT[TEXT.index("values = [yamlencode({") :]
    for key in re.findall(r"(?m)^    (\w+)\s*=", block[: block.index("})]")]):
        assert f'"{key}"' in schema, key


def test_checkov_finds_nothing_but_what_its_configuration_explains() -> None:
    checkov = tool("checkov-env/bin/checkov", "terraform")
    environment = {**os.environ, "LOG_LEVEL": "ERROR"}
    output = run(checkov, "--config-file", FOLDER / "checkov.yaml", "--directory", FOLDER, env=environment, cwd=FOLDER)
    assert int(re.findall(r"Passed checks: (\d+)", output)[-1]) > 100
    assert re.findall(r"Failed checks: (\d+)", output)[-1] == "0"


@pytest.mark.parametrize("secret", ["password", "token"])
def test_no_secret_is_written_down(secret: str) -> None:
    for line in TEXT.splitlines():
        if match := re.match(rf"\s*{secret}\s*=\s*(.*)$", line):
            assert '"' not in match[1], line
