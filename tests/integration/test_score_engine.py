"""The callable of batch scoring on an engine of several processes: Dask, with two workers."""

import os
from pathlib import Path
from typing import Any

import pytest

from inflight.settings import Settings
from machine_learning_engineering.scoring.scorer import Scorer
from machine_learning_engineering.training.quick import train
from tests.support.line_model import Line, some

pd = pytest.importorskip("pandas")
distributed = pytest.importorskip("distributed")
dd = pytest.importorskip("dask.dataframe")


@pytest.fixture
def scorer(tmp_path: Path) -> Scorer:
    settings = Settings(home=tmp_path, _env_file=None)  # type: ignore[call-arg]
    train(Line, settings, examples=some(2.0))
    return Scorer("line@champion", registry=settings.registry_dir, model_class=Line, batch_rows=100)


@pytest.mark.filterwarnings("ignore")  # Of the engine's own, as it starts and stops.
def test_two_worker_processes_score_the_partitions_of_a_frame(scorer: Scorer, tmp_path: Path) -> None:
    """The same rows, index and types as in this process, with refused rows among them."""
    frame = pd.DataFrame({"order": [f"o{n}" for n in range(2_000)], "number": [n % 13 + 0.5 for n in range(2_000)]})
    frame.loc[frame.index % 500 == 7, "number"] = None
    here = scorer(frame)

    def with_process(part: Any) -> Any:
        return scorer(part).assign(process=os.getpid())

    options = {"processes": True, "threads_per_worker": 1, "dashboard_address": None, "local_directory": str(tmp_path)}
    with (
        distributed.LocalCluster(n_workers=2, **options) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.wait_for_workers(2, timeout=60)
        meta = scorer(frame.head(0)).assign(process=0)
        found = dd.from_pandas(frame, npartitions=8).map_partitions(with_process, meta=meta).compute()
        workers = set(client.run(os.getpid).values())
        plain = dd.from_pandas(frame, npartitions=4).map_partitions(scorer, meta=scorer(frame.head(0))).compute()

    assert len(workers) == 2
    assert os.getpid() not in workers
    assert set(found.pop("process")) == workers
    # The engine may store texts otherwise.
    assert found.astype(here.dtypes).equals(here)
    assert plain.astype(here.dtypes).equals(here)
    assert here["error_type"].notna().sum() == 4
    assert list(here.columns) == ["order", "prediction.answer", "error_type", "error_message"]


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
