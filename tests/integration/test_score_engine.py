"""The callable of batch scoring on an engine of several processes: Dask, with two workers."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from inflight.settings import Settings
from machine_learning_engineering.scoring.scorer import Scorer
from machine_learning_engineering.training.quick import train
from tests.support.line_model import Line, some

pd = pytest.importorskip("pandas")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def scorer(tmp_path: Path) -> Scorer:
    settings = Settings(home=tmp_path, _env_file=None)  # type: ignore[call-arg]
    train(Line, settings, examples=some(2.0))
    return Scorer("line@champion", registry=settings.registry_dir, model_class=Line, batch_rows=100)


@pytest.mark.timeout(900)  # Wheels are downloaded.
def test_two_worker_processes_score_the_partitions_of_a_frame(scorer: Scorer, tmp_path: Path) -> None:
    """The same rows, index and types as in one process, with refused rows among them.

    Where Dask is installed, scikit-learn imports it in each process; so it is installed for this test alone.
    """
    beside = tmp_path / "dask"
    uv = Path(sys.executable).with_name("uv")
    run([uv, "pip", "install", "--quiet", "--python", sys.executable, "--target", beside, "distributed>=2025.1"])
    program = ROOT / "tests" / "support" / "programs" / "dask_scoring.py"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(beside)])}
    [*_, last] = run(
        [sys.executable, program, scorer.registry, tmp_path / "cluster"], cwd=tmp_path, env=environment
    ).splitlines()
    assert json.loads(last) == {
        "workers": 2,
        "used": True,
        "equal": True,
        "refused": 4,
        "columns": ["order", "prediction.answer", "error_type", "error_message"],
    }


def run(command: Sequence[Any], **options: Any) -> str:
    """Run a program to its end; what it printed."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, timeout=800, **options)
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-3_000:]
    return done.stdout


def test_frames_are_mapped_one_after_the_other(scorer: Scorer) -> None:
    """As Spark's mapInPandas calls it, with an iterator of frames."""
    frames = [
        pd.DataFrame({"number": [1.0, 2.0], "order": ["a", "b"]}),
        pd.DataFrame({"number": [3.0], "order": ["c"]}),
    ]
    found = list(scorer.map(iter(frames)))
    assert [one["order"].tolist() for one in found] == [["a", "b"], ["c"]]
    assert [one["prediction.answer"].tolist() for one in found] == [
        scorer(one)["prediction.answer"].tolist() for one in frames
    ]
