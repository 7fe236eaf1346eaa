"""Scored files have the stream's answers; a killed scoring ends as one that was not; files may be in a bucket."""

import gzip
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import pytest

from inflight.settings import Settings
from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.scoring.inputs import InputRefused, find_inputs
from machine_learning_engineering.scoring.run import score_files
from machine_learning_engineering.scoring.scorer import Scorer
from machine_learning_engineering.training.quick import train
from stream_app.serving.batch import TP, PartitionBatch
from stream_app.serving.scorer import Scorer as StreamScorer
from tests.support.line_model import Line, some
from tests.support.request_records import record
from tests.support.scorer_outputs import TOPICS, results
from tests.support.waiting import until

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
ROOT = Path(__file__).parents[2]
ROWS = 20_000


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """With a champion of `Line`."""
    home = tmp_path_factory.mktemp("home")
    settings = Settings(home=home, _env_file=None)  # type: ignore[call-arg]
    train(Line, settings, examples=some(2.0))
    return Registry(settings.registry_dir)


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two files with rows that are refused."""
    folder = tmp_path_factory.mktemp("orders")
    numbers = [None if n % 997 == 0 else n % 10 + 0.1 * (n % 7) for n in range(ROWS)]
    table = pa.table({"id": range(ROWS), "number": numbers, "label": [2.0 * (n or 0.0) for n in numbers]})
    pq.write_table(table, folder / "a.parquet", row_group_size=3_000)
    pq.write_table(table.slice(0, 3_000), folder / "b.parquet")
    return [str(folder / "a.parquet"), str(folder / "b.parquet")]


def files_of(folder: Path) -> dict[str, bytes]:
    found = [one for one in sorted(folder.rglob("*")) if one.is_file() and one.name not in ("_summary.json", ".lock")]
    return {str(one.relative_to(folder)): one.read_bytes() for one in found}


def parts(output: Path) -> int:
    return len(list(output.glob("_parts/part-*.json")))


def has_parts(output: Path, count: int, process: subprocess.Popen[bytes]) -> bool:
    """Whether as many parts are finished, or the process has ended."""
    return parts(output) >= count or process.poll() is not None


def test_a_scoring_killed_again_and_again_ends_with_the_files_of_one_that_was_not(
    registry: Registry, orders: list[str], tmp_path: Path
) -> None:
    """kill -9 while parts are written. No half part is ever visible, and none is scored twice."""
    scorer = Scorer("line", registry=registry.path, model_class=Line, batch_rows=50)
    whole = score_files(scorer, orders, tmp_path / "whole", label="label")
    output = tmp_path / "out"
    command = [sys.executable, "tests/support/programs/score_line.py", str(registry.path), str(output), *orders]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = 0
    for _ in range(3):
        with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE) as process:
            try:
                until(partial(has_parts, output, done + 3, process), 120, "three more parts")
            finally:
                process.kill()
            _, errors = process.communicate()
        assert process.returncode == -signal.SIGKILL, errors
        done = parts(output)
        for part in output.glob("part-*.parquet"):
            pq.read_table(part)
    assert 9 <= done < len(list((tmp_path / "whole/_parts").iterdir()))
    last = score_files(scorer, orders, output, label="label")
    assert last.resumed >= 9 * 800
    assert (last.rows, last.reasons, last.metrics) == (whole.rows, whole.reasons, whole.metrics)
    assert files_of(output) == files_of(tmp_path / "whole")


def test_a_disk_that_is_full_stops_a_scoring_that_goes_on_when_there_is_room(
    registry: Registry, orders: list[str], tmp_path: Path
) -> None:
    """A real limit of the kernel on the size of files. Nothing half is left, and the end is the same."""
    scorer = Scorer("line", registry=registry.path, model_class=Line, batch_rows=50)
    score_files(scorer, orders[1:], tmp_path / "whole", label="label")
    output = tmp_path / "out"
    program = "import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, 9_000)); "
    program += "runpy.run_path('tests/support/programs/score_line.py')"
    command = [sys.executable, "-c", program, str(registry.path), str(output), orders[1]]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    full = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert full.returncode == 1
    assert "File too large" in full.stderr
    assert not list(output.rglob(".partial-*"))
    score_files(scorer, orders[1:], output, label="label")
    assert files_of(output) == files_of(tmp_path / "whole")


def test_files_have_the_answers_of_the_stream(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bytes for each row that has an answer, and the same error for each other one."""
    answer = Line.predict

    def fragile(self: Line, rows: Any) -> Any:
        if any(row.number == 7 for row in rows):
            raise ZeroDivisionError("secret 42")
        return [
            type(one)(float("nan")) if row.number == 8 else one
            for one, row in zip(answer(self, rows), rows, strict=True)
        ]

    monkeypatch.setattr(Line, "predict", fragile)
    features = [b'{"number":%d}' % n for n in range(40)]
    features += [b'{"number":1e308}', b'{"number":"1"}', b"{}", b'{"number":null}', b'{"number":0.30000000000000004}']
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(features))
    scorer = Scorer("line", registry=registry.path, model_class=Line, batch_rows=16)
    score_files(scorer, [str(tmp_path / "in.jsonl")], tmp_path / "out", format="jsonl")
    lines = BytesIO((tmp_path / "out/part-00000-000000000000.jsonl").read_bytes())
    refused = BytesIO((tmp_path / "out/_refused/part-00000-000000000000.jsonl").read_bytes())
    found = {one["input_row"]: one for line in (*lines, *refused) for one in [msgspec.json.decode(line)]}

    requests = [
        events.encode(events.PredictionRequested(f"r{n}", "line", msgspec.Raw(one))) for n, one in enumerate(features)
    ]
    records: Any = [record(value, offset=n) for n, value in enumerate(requests)]
    stream = StreamScorer({"line": scorer.model}, TOPICS, max_request_bytes=10_000)
    [scored] = stream.score([PartitionBatch(TP("requests", 0), 0, len(records), records, 1)])
    for number, result in enumerate(results(scored), start=1):
        if isinstance(result, events.PredictionCompleted):
            assert found[number]["prediction"] == msgspec.json.decode(result.prediction)
        else:
            assert found[number]["error"] == msgspec.to_builtins(result.error)
    assert len(found) == len(features) == len(results(scored))


# --- object stores ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bucket(orders: list[str]) -> Iterator[str]:
    """A bucket with the two files, on a server of S3's interface; its address is in the environment."""
    boto3 = pytest.importorskip("boto3")
    server_module = pytest.importorskip("moto.server")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    names = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with pytest.MonkeyPatch.context() as patched:
        for name, value in names.items():
            patched.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="shop")
        for path in orders:
            client.upload_file(path, "shop", f"orders/2026/{Path(path).name}")
        client.put_object(Bucket="shop", Key="orders/_SUCCESS", Body=b"")
        client.put_object(Bucket="shop", Key="lines/c.csv.gz", Body=gzip.compress(b"id,number\n007,1\n008,\n"))
        client.close()
        yield "s3://shop"
    server.stop()


def test_files_of_an_object_store_are_scored_as_local_ones(
    bucket: str, registry: Registry, orders: list[str], tmp_path: Path
) -> None:
    scorer = Scorer("line", registry=registry.path, model_class=Line, batch_rows=1_000)
    names = [f"{bucket}/orders/2026/a.parquet", f"{bucket}/orders/2026/b.parquet"]
    assert [one.path for one in find_inputs([f"{bucket}/orders/"])] == names
    assert [one.path for one in find_inputs([f"{bucket}/orders/*/a.parquet", names[1]])] == names
    there = score_files(scorer, [f"{bucket}/orders/"], tmp_path / "there", label="label")
    here = score_files(scorer, orders, tmp_path / "here", label="label")
    assert (there.rows, there.reasons) == (here.rows, here.reasons)
    tables = [pq.read_table(tmp_path / name, filters=None).drop_columns(["input_file"]) for name in ("there", "here")]
    assert tables[0].equals(tables[1])
    lines = score_files(scorer, [f"{bucket}/lines/c.csv.gz"], tmp_path / "lines")
    assert (lines.scored, lines.refused) == (1, 1)
    assert pq.read_table(tmp_path / "lines")["id"].to_pylist() == ["007"]
    with pytest.raises(InputRefused, match="s3://shop/nothing/: there is no such file"):
        find_inputs([f"{bucket}/nothing/"])
    with pytest.raises(InputRefused, match="s3://missing/"):
        find_inputs(["s3://missing/"])
