"""`machine_learning_engineering` installed alone, as a data scientist has it, with its own tests and a package's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.doses import FULL

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")
SLOW = (
    "retraining",
    "test_training_layers",
    "test_training_quick",
    "test_training_pipeline",
    "test_training_promotion",
    "test_observability_logging",
    "test_testing_fresh_process",
    "test_drift_binning",
    "test_drift_report",
)
# Wheels are downloaded, on a machine that may be busy.
pytestmark = pytest.mark.timeout(900)


def run(*command: str | Path, cwd: Path) -> str:
    """Run a program to its end; what it printed."""
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    words = [str(part) for part in command]
    done = subprocess.run(words, env=clean, cwd=cwd, capture_output=True, text=True, check=False, timeout=800)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3_000:]}\n{done.stderr[-3_000:]}"
    return done.stdout


class Environment:
    """A virtual environment in a folder, with the wheel of the SDK and what tests need."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._python = folder / "venv" / "bin" / "python"
        run(sys.executable, "-m", "venv", "--without-pip" if UV.exists() else "--clear", folder / "venv", cwd=folder)
        self._wheel = self.wheel("mle_package")
        self.install(f"{self._wheel}", "pytest", "pytest-timeout", "hypothesis")

    def wheel(self, project: str) -> Path:
        """Build the wheel of a project, as a user's index would have it."""
        target = self.folder / "wheels" / project
        run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", target, ROOT / project, cwd=self.folder)
        [built] = target.glob("*.whl")
        return built

    def install(self, *what: str) -> None:
        if UV.exists():
            run(UV, "pip", "install", "--quiet", "--python", self._python, *what, cwd=self.folder)
        else:
            run(self._python, "-m", "pip", "install", "--quiet", *what, cwd=self.folder)

    def extra(self, name: str) -> None:
        self.install(f"{self._wheel}[{name}]")

    def installed(self) -> set[str]:
        names = "from importlib.metadata import distributions as d; print(*(one.name for one in d()))"
        return set(run(self._python, "-c", names, cwd=self.folder).split())

    def version(self, name: str) -> str:
        return run(
            self._python, "-c", f"from importlib.metadata import version as v; print(v({name!r}))", cwd=self.folder
        )

    def test(self, *which: str | Path) -> str:
        """Run tests as users of the SDK do, from a folder of theirs; what pytest said at the end."""
        said = run(self._python, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", *which, cwd=self.folder)
        return said.splitlines()[-1]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment(tmp_path_factory.mktemp("alone"))


def test_its_tests_pass_where_nothing_else_is_installed(alone: Environment) -> None:
    """What needs an extra is skipped there; it runs with the product's own tests.

    So do the slowest, which are repeated here in the full dose alone.
    """
    tests = ROOT / "mle_package" / "tests"
    left_out = [] if FULL else [f"--ignore-glob={tests / name}*" for name in SLOW]
    assert " passed" in alone.test(tests, *left_out)
    unwanted = {
        "inflight-streaming",
        "confluent-kafka",
        "faust-streaming",
        "kafka-python",
        "elasticsearch",
        "pandas",
        "pyarrow",
    }
    assert not alone.installed() & unwanted


def test_a_package_is_tested_with_the_sdk_alone(alone: Environment) -> None:
    """No Kafka client, no Faust, no Elasticsearch: what a data scientist has on a laptop."""
    alone.install(f"{alone.wheel('ds/ds_package')}")
    package = ROOT / "ds" / "ds_package"
    ended = alone.test("-c", package / "pyproject.toml", "--rootdir", alone.folder, package / "tests")
    assert " passed" in ended
    assert "skipped" not in ended
    assert {"ds-package", "inflight-streaming-sdk", "scikit-learn"} <= alone.installed()


def test_versions_are_logged_to_a_real_mlflow(alone: Environment) -> None:
    """The extra `mlflow` is too large for the product's environment, so that its tests run here."""
    alone.extra("mlflow")
    ended = alone.test(ROOT / "mle_package" / "tests" / "test_registry_mlflow_export.py")
    assert " passed" in ended
    assert "skipped" not in ended


def test_models_are_adopted_beside_the_oldest_scikit_learn(alone: Environment) -> None:
    """The SDK is installed where a model was fitted, and leaves its scikit-learn as it is."""
    alone.install("scikit-learn==1.5.*", "pandas==2.2.*")
    alone.extra("pandas")
    assert alone.version("scikit-learn").startswith("1.5.")
    tests = ROOT / "mle_package" / "tests"
    chosen = [tests / "test_adoption_frames.py", tests / "test_registry.py"]
    chosen += [tests / "test_adoption_pipelines.py"] if FULL else []
    # SciPy is newer, and says so.
    ended = alone.test("-W", "ignore::DeprecationWarning", *chosen)
    assert " passed" in ended
