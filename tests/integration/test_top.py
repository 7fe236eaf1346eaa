"""`inflight top` over processes that really run."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support.deployment import UNTIL_STOPPED, Deployment
from tests.support.waiting import figures, until

RATE = 200


def top(*options: str, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "INFLIGHT_HOME": str(home), "COLUMNS": "80"}
    command = [sys.executable, "-m", "inflight.cli", "top", "--once", *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def near(per_second: float) -> bool:
    return RATE * 0.5 < per_second < RATE * 1.5


def test_it_shows_what_the_processes_do(deployment: Deployment, tmp_path: Path) -> None:
    """Throughput, outcomes, latency, versions and lag of a stream under load; and what does not run."""
    worker, exporter = deployment.worker(), deployment.exporter()
    until(lambda: worker.serves() and exporter.serves(), 300, "worker and exporter run")
    load = deployment.load(UNTIL_STOPPED, rate=RATE)
    until(lambda: exporter.metric("inflight_predictions_total") > RATE, 300, "the exporter counts")
    until(lambda: exporter.metric("inflight_consumer_lag_age_seconds") < 5, 300, "the lag is read")
    addresses = ["--worker", str(worker.metrics_port), "--exporter", exporter.metrics_url]
    elsewhere = [part for name in ("indexer", "drift-monitor", "label-joiner") for part in (f"--{name}", "1")]
    for _ in range(6):
        done = top("--json", "--interval", "5", *addresses, *elsewhere, home=tmp_path)
        found = json.loads(done.stdout)
        (model,) = found["models"]
        # What is counted in five seconds is near to what was sent in them, unless the machine was held up just then.
        if near(found["per_second"]) and near(model["completed_per_second"]):
            break
    picture = top(*addresses, *elsewhere, home=tmp_path)
    load.stop()

    assert (model["name"], len(model["versions"])) == ("diamonds", 1)
    assert near(found["per_second"])
    assert near(model["completed_per_second"])
    assert model["failed_per_second"] == 0
    assert 0 < model["score"]["p50"] <= model["score"]["p99"]
    assert 0 < model["total"]["p50"] <= model["total"]["p99"]
    assert found["worker"]["partitions"] == deployment.settings.topic_partitions
    assert {"inflight-worker", "inflight-indexer", "inflight-exporter"} <= {lag["group"] for lag in found["lags"]}
    state = {process["kind"]: process["problem"] for process in found["processes"]}
    assert (state["worker"], state["exporter"], state["indexer"]) == ("", "", "not running")
    assert done.returncode == (1 if found["warnings"] else 0)
    figures(per_second=round(found["per_second"], 1), p99_ms=round(model["total"]["p99"] * 1000, 1))

    for words in ("inflight top", "● worker", "○ indexer", "diamonds", "total p50/p99", "worker: requests"):
        assert words in picture.stdout
    assert max(map(len, picture.stdout.splitlines())) <= 80
    load.report()


def test_where_nothing_runs_it_says_so(tmp_path: Path) -> None:
    """And how to begin; code 1, for scripts."""
    nowhere = [
        part
        for name in ("worker", "exporter", "indexer", "drift-monitor", "label-joiner")
        for part in (f"--{name}", "1")
    ]
    done = top("--interval", "0.2", *nowhere, home=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert "no worker is running" in done.stdout
    wrong = top("--worker", "ftp://x", home=tmp_path)
    assert (wrong.returncode, "give a URL" in wrong.stderr) == (2, True)
