"""The image of a data scientist's package, as far as it can be known without a container engine.

Its RUN steps are run in a temporary folder that stands in for the image's root, with this machine's Python as the base.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "ds" / "docker" / "Dockerfile"
IGNORED = shutil.ignore_patterns("__pycache__", "tests")


class Step(NamedTuple):
    """One instruction; `stage` counts from 0."""

    stage: int
    name: str
    arguments: str


def read_steps() -> list[Step]:
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    steps: list[Step] = []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, arguments = line.strip().partition(" ")
            stage = sum(step.name == "FROM" for step in steps) - (name != "FROM")
            steps.append(Step(stage, name, " ".join(arguments.split())))
    return steps


STEPS = read_steps()


def of(name: str, stage: int | None = None) -> list[str]:
    return [step.arguments for step in STEPS if step.name == name and stage in (None, step.stage)]


def test_the_base_is_one_release_of_python_in_every_stage() -> None:
    images = {arguments.split()[0] for arguments in of("FROM")}
    assert len(images) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+", images.pop())


def test_it_runs_the_worker_without_a_shell_and_not_as_root() -> None:
    """A number as user, so that Kubernetes can see that it is not root."""
    assert (json.loads(of("ENTRYPOINT")[-1]), json.loads(of("CMD", 1)[-1])) == (["inflight"], ["worker"])
    user, _, group = of("USER")[-1].partition(":")
    assert int(user) >= 10_000 <= int(group)
    assert of("STOPSIGNAL") == ["SIGTERM"]
    names = [step.name for step in STEPS if step.stage == 1]
    assert names.index("USER") > max(index for index, name in enumerate(names) if name in ("COPY", "RUN"))


def test_nothing_is_built_or_fetched_in_the_image_that_runs() -> None:
    """Its stage copies the environment; whatever changes lies in the volume, so its root may be read-only."""
    assert of("RUN", 1) == of("ADD") == []
    assert all(arguments.startswith("--from=build ") for arguments in of("COPY", 1))
    environment = dict(pair.split("=", 1) for pair in shlex.split(of("ENV")[0]))
    assert environment["INFLIGHT_HOME"] == of("VOLUME")[0] == of("WORKDIR", 1)[0]
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"
    assert of("EXPOSE") == [environment["INFLIGHT_WORKER_METRICS_PORT"]]


def test_every_tool_is_pinned_and_every_package_locked() -> None:
    [pip] = [step for step in of("RUN") if "pip install" in step and "uv pip" not in step]
    assert "--require-hashes -r build.lock" in pip
    [install] = [step for step in of("RUN") if "uv pip install" in step]
    assert "--build-constraints build.lock --constraint requirements.lock" in install
    assert not [step for step in of("RUN") if "|" in step or ";" in step or "curl" in step or "sudo" in step]


def test_the_context_holds_what_is_copied_and_no_more() -> None:
    ignore = DOCKERFILE.with_name("Dockerfile.dockerignore").read_text().splitlines()
    kept = {line.removeprefix("!") for line in ignore if line.startswith("!")}
    copied = {source for arguments in of("COPY", 0) for source in arguments.split()[:-1]}
    assert ignore[1] == "*"
    assert copied == kept
    assert all((ROOT / source).exists() for source in copied)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in place of the image's root, with what the last stage copies from the build stage and no more."""
    root = tmp_path_factory.mktemp("image")

    def placed(text: str) -> str:
        return re.sub(r"(?<![\w./-])/(opt|source|var)\b", lambda found: f"{root}/{found[1]}", text)

    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    folder = root
    for step in (step for step in STEPS if step.stage == 0):
        if step.name == "WORKDIR":
            folder = Path(placed(step.arguments))
            folder.mkdir(parents=True)
        elif step.name == "COPY":
            *sources, target = step.arguments.split()
            for source in sources:
                found, goal = ROOT / source, folder / target
                if found.is_dir():
                    shutil.copytree(found, goal, ignore=IGNORED)
                else:
                    shutil.copy(found, goal)
        elif step.name == "RUN":
            done = subprocess.run(
                # The machine's cache spares a download; bytecode pays off in many starts only.
                placed(step.arguments.replace("--no-cache ", "").replace("--compile-bytecode ", "")),
                shell=True,
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=800,
            )
            assert done.returncode == 0, f"{step.arguments}\n{done.stdout[-2_000:]}\n{done.stderr[-3_000:]}"
    copied = {Path(arguments.split()[-1]) for arguments in of("COPY", 1)}
    assert not [one for one in copied if one.is_relative_to("/source")]
    shutil.rmtree(root / "source")
    return root


def inside(image: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    """Run a program with the environment that the image sets, in its volume."""
    environment = dict(pair.split("=", 1) for pair in shlex.split(of("ENV")[0]))
    environment["PATH"] = f"{image}/opt/inflight/bin{os.pathsep}{os.environ['PATH']}"
    volume = f"{image}{environment['INFLIGHT_HOME']}"
    environment["INFLIGHT_HOME"] = volume
    program = f"{image}/opt/inflight/bin/{command[0]}"
    arguments = [program, *command[1:]]
    return subprocess.run(
        arguments, cwd=volume, env=environment, capture_output=True, text=True, check=False, timeout=600
    )


def test_the_build_steps_give_a_product_that_has_the_model(image: Path) -> None:
    """Trained in the volume, listed, and no development tool or test within."""
    entrypoint = json.loads(of("ENTRYPOINT")[-1])
    trained = inside(image, *entrypoint, "train", "wine", "--json")
    assert trained.returncode == 0, trained.stderr
    [run] = json.loads(trained.stdout)
    assert (run["model"], run["version"]) == ("wine", "v1")
    listed = inside(image, *entrypoint, "models", "list", "--json")
    assert [(one["model"], one["champion"]) for one in json.loads(listed.stdout)] == [("wine", True)]
    installed = {
        path.name.split("-")[0] for path in (image / "opt/inflight/lib").glob("python3*/site-packages/*.dist-info")
    }
    assert {"ds_package", "machine_learning_engineering", "inflight", "faust_streaming"} <= installed
    assert not installed & {"pytest", "mypy", "ruff", "uv", "hatchling"}


def test_the_default_command_is_the_worker(image: Path) -> None:
    entrypoint, command = json.loads(of("ENTRYPOINT")[-1]), json.loads(of("CMD", 1)[-1])
    said = inside(image, *entrypoint, *command, "--help")
    assert said.returncode == 0, said.stderr
    assert "Score requests" in said.stdout


def test_the_health_check_fails_where_no_worker_is(image: Path) -> None:
    arguments = of("HEALTHCHECK")[0].partition("CMD ")[2]
    said = inside(image, *json.loads(arguments.replace(":9101", ":1")))
    assert said.returncode != 0
    assert "URLError" in said.stderr
