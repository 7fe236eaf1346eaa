"""The Terraform files: format, the schemas of the providers, roles, and Checkov. Nothing is planned or applied."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deploy.generate import CHART, ROOT
from deploy.provider_schemas import PROVIDERS
from tests.support.tools import TOOLS, run, tool

FOLDER = ROOT / "deploy" / "terraform" / "aws"
TEXT = "\n".join(file.read_text() for file in sorted(FOLDER.glob("*.tf")))


def test_the_format_is_that_of_tofu(tmp_path: Path) -> None:
    """Which reads the syntax too."""
    tofu = tool("tofu", "terraform")
    run(tofu, f"-chdir={FOLDER}", "fmt", "-check", "-diff")
    (tmp_path / "wrong.tf").write_text('variable "x" {\n  type = string\n')
    assert subprocess.run([tofu, f"-chdir={tmp_path}", "fmt", "-check"], capture_output=True).returncode != 0


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Providers that know the schemas of the real ones, and nothing else."""
    program = tool("providers", "terraform")
    tool("bindings-env/bin/python", "terraform")
    folder = tmp_path_factory.mktemp("providers")
    (packages,) = (TOOLS / "bindings-env" / "lib").glob("python3*/site-packages")
    run(sys.executable, "-m", "deploy.provider_schemas", packages, folder / "schemas", cwd=ROOT)
    for name in PROVIDERS:
        (folder / f"terraform-provider-{name}").symlink_to(program)
    overrides = "".join(f'"hashicorp/{name}" = "{folder}"\n' for name in PROVIDERS)
    (folder / "tofurc").write_text(f"provider_installation {{\ndev_overrides {{\n{overrides}}}\ndirect {{}}\n}}\n")
    more = {"TF_CLI_CONFIG_FILE": str(folder / "tofurc"), "PROVIDER_SCHEMAS": str(folder / "schemas")}
    return {**os.environ, **more}


def test_the_schemas_of_the_providers_take_it(environment: dict[str, str]) -> None:
    """AWS 6.25, Helm 3.1, Kubernetes, random: arguments, blocks, references and types."""
    tofu = tool("tofu", "terraform")
    assert "configuration is valid" in run(tofu, f"-chdir={FOLDER}", "validate", "-no-color", env=environment)


@pytest.mark.parametrize(
    ("good", "wrong", "message"),
    [
        ("number_of_broker_nodes =", "number_of_brokers =", "Unsupported argument"),
        ("number_of_broker_nodes = 3", 'number_of_broker_nodes = "three"', "Incorrect attribute value type"),
        ("  client_authentication {", "  client_authorization {", "Unsupported block type"),
        ("    client_subnets  = var.subnet_ids\n", "", 'argument "client_subnets" is required'),
        ("aws_msk_cluster.this.bootstrap_brokers_sasl_scram", "aws_msk_cluster.this.brokers", "Unsupported attribute"),
        ("var.kafka_version", "var.kafka_versoin", "undeclared input variable"),
        ("aws_kms_key.this.arn", "aws_kms_key.that.arn", "undeclared resource"),
    ],
)
def test_they_find_what_is_wrong(
    tmp_path: Path, environment: dict[str, str], good: str, wrong: str, message: str
) -> None:
    for file in FOLDER.glob("*.tf"):
        (tmp_path / file.name).write_text(file.read_text().replace(good, wrong))
    command = [tool("tofu", "terraform"), f"-chdir={tmp_path}", "validate", "-no-color"]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 1
    assert message in result.stderr, result.stderr


def test_each_variable_is_used() -> None:
    assert set(re.findall(r'(?m)^variable "(\w+)"', TEXT)) == set(re.findall(r"\bvar\.(\w+)", TEXT))


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
