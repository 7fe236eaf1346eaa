"""The files of GitHub Actions: what they run is the Makefile's, what they use is fixed, what they may is little."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.generate import ROOT

FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
# Those of the release come with deploy/release and deploy/docker.
TARGETS = {"image", "release-check", *re.findall(r"(?m)^([a-z-]+):(?!=)", (ROOT / "Makefile").read_text())}


def jobs() -> list[Any]:
    return [
        pytest.param(file, job, id=f"{file.stem}-{name}")
        for file in FILES
        for name, job in yaml.safe_load(file.read_text())["jobs"].items()
    ]


def test_there_are_the_workflows_of_the_delivery() -> None:
    assert {file.stem for file in FILES} >= {"checks", "nightly", "release", "retraining"}


@pytest.mark.parametrize(("file", "job"), jobs())
def test_each_command_is_a_target_of_the_makefile(file: Path, job: dict[str, Any]) -> None:
    for step in job["steps"]:
        if "run" not in step:
            continue
        line = step["run"].strip()
        assert line == ".ci/run" or (match := re.fullmatch(r"make ([a-z-]+)", line)), line
        assert line == ".ci/run" or match[1] in TARGETS, f"{file.name}: there is no target {line}"


@pytest.mark.parametrize(("file", "job"), jobs())
def test_actions_are_fixed_by_commit_and_keep_no_credentials(file: Path, job: dict[str, Any]) -> None:
    text = file.read_text()
    for step in job["steps"]:
        if "uses" in step:
            assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", step["uses"]), step["uses"]
            assert f"uses: {step['uses']} # v" in text
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize(("file", "job"), jobs())
def test_jobs_end_and_may_only_what_they_need(file: Path, job: dict[str, Any]) -> None:
    workflow = yaml.safe_load(file.read_text())
    assert workflow["permissions"] == {}
    assert "concurrency" in workflow
    assert 0 < job["timeout-minutes"] <= 240
    writes = {name for name, right in job["permissions"].items() if right == "write"}
    assert writes <= {"id-token", "attestations", "packages"}
    if writes:
        assert file.stem == "release"
    if {"packages"} & writes or any(step.get("run") == "make publish" for step in job["steps"]):
        assert job["environment"] == "release"


def test_no_expression_is_in_a_command_and_no_secret_is_for_a_pull_request() -> None:
    for file in FILES:
        workflow = yaml.safe_load(file.read_text())
        # YAML reads `on` as true.
        triggers = workflow[True]
        assert "pull_request_target" not in triggers
        if "pull_request" in triggers:
            assert "secrets." not in file.read_text()
        for job in workflow["jobs"].values():
            assert all("${{" not in step.get("run", "") for step in job["steps"])


def test_updates_cover_what_is_pinned() -> None:
    updates = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text())["updates"]
    assert {one["package-ecosystem"] for one in updates} >= {"github-actions", "uv", "gomod", "docker", "terraform"}
    assert all(one["cooldown"]["default-days"] >= 7 for one in updates)
