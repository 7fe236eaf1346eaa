"""Grafana's board of rollouts, and the annotation on every board, on a rollout that a real Prometheus has scraped."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from msgspec import UNSET, structs
from prometheus_client import CollectorRegistry

from machine_learning_engineering.events.schemas import encode
from machine_learning_engineering.rollout.record import Rollouts, Step
from machine_learning_engineering.rollout.verdict import Check, Verdict
from monitoring.exporter.metrics import ExporterMetrics
from monitoring.exporter.observer import Observer
from monitoring.rollout.metrics import RolloutMetrics
from monitoring.rollout_evidence.records import Records
from monitoring.rollout_evidence.summary import summarize
from monitoring.runtime.process import serve_metrics
from tests.support.prometheus import FOLDER, Prometheus
from tests.support.rollout_records import CANARY, SHADOW, NumberLosses, label, label_record, logged, shadowed
from tests.support.waiting import until

BOARDS = {path.stem: json.loads(path.read_text()) for path in (FOLDER.parent / "grafana" / "dashboards").glob("*.json")}
VERDICT = Verdict(
    "waiting",
    "labels",
    (Check("errors", "pass", "none"), Check("quality", "waiting", "of labels"), Check("memory", "fail", "much")),
)


class Shown:
    """Metrics of the exporter and of the controller, as they are after some requests of a rollout."""

    def __init__(self) -> None:
        self.exporter, self.controller = CollectorRegistry(), CollectorRegistry()
        self._observer = Observer(ExporterMetrics(self.exporter))
        self._metrics = RolloutMetrics(self.controller)
        self._number = 0

    def go_on(self) -> None:
        """Some more requests, labels and looks."""
        records = Records(CANARY, NumberLosses())
        for number in range(20):
            self._number += 1
            arm = "challenger" if number % 4 == 0 else "champion"
            event = encode(logged(CANARY, self._number, arm, error="prediction_error" if number == 7 else ""))
            self._observer.observe_log_record(event)
            records.log(event)
            records.label(label_record(label(CANARY, self._number, 1.0)))
            late: dict[str, Any] = {"outcome": "dropped", "shadow_seconds": UNSET} if number % 5 == 0 else {}
            self._observer.observe_shadow_record(encode(shadowed(SHADOW, self._number, 1.0, float(number % 2), **late)))
        now = CANARY.stage_at + timedelta(days=1)
        step = Step(number=2, action="widened", at=now, by="controller", stage="canary", percent=5)
        self._metrics.evidence.show("diamonds", summarize(records, NumberLosses(), now))
        self._metrics.show("diamonds", Rollouts(structs.replace(CANARY, steps=(step,))), VERDICT, now)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """It has scraped both processes more than once, and requests came in between."""
    if shutil.which("prometheus") is None:
        assert not os.environ.get("REQUIRE_REAL"), "prometheus is missing: install Debian's prometheus"
        pytest.skip("prometheus is not installed")
    shown = Shown()
    shown.go_on()
    names = [job["job_name"] for job in yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]]
    with serve_metrics(shown.exporter, "127.0.0.1", 0) as one, serve_metrics(shown.controller, "127.0.0.1", 0) as two:
        urls = dict.fromkeys(names, one) | {"inflight-rollout-controller": two}
        jobs: Any = {name: SimpleNamespace(metrics_url=url) for name, url in urls.items()}
        started = Prometheus(tmp_path_factory.mktemp("prometheus") / "home", jobs)
        try:
            asked = "rate(inflight_rollout_requests_total[5m]) > 0"

            def counts() -> bool:
                shown.go_on()
                return started.has(asked) and started.has("inflight_rollout_step_info")

            until(counts, 120, "Prometheus has seen requests of the rollout")
            yield started
        finally:
            started.stop()


def test_each_panel_shows_the_rollout(prometheus: Prometheus) -> None:
    panels = [panel for panel in BOARDS["rollouts"]["panels"] if "targets" in panel]
    assert len(panels) == 15
    for panel in panels:
        for target in panel["targets"]:
            expression = target["expr"].replace("$model", ".*").removesuffix(" or vector(0)")
            found = prometheus.query(expression)
            assert found, f"panel {panel['title']!r} shows nothing: {expression}"
            labels = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            assert labels <= found[0]["metric"].keys(), f"panel {panel['title']!r} names labels that it does not have"


def test_the_headline_numbers_are_right(prometheus: Prometheus) -> None:
    found = {
        panel["title"]: float(prometheus.query(panel["targets"][0]["expr"].replace("$model", ".*"))[0]["value"][1])
        for panel in BOARDS["rollouts"]["panels"]
        if panel["type"] == "stat"
    }
    assert found == {
        "Open rollouts": 1,
        "Answered by the challenger": 0.05,
        "Checks that wait": 1,
        "Checks that fail": 1,
    }


@pytest.mark.parametrize("name", sorted(BOARDS))
def test_every_board_marks_the_steps(prometheus: Prometheus, name: str) -> None:
    (annotation,) = [one for one in BOARDS[name]["annotations"]["list"] if one["name"] == "Steps of rollouts"]
    (found,) = prometheus.query(annotation["expr"])
    title = re.sub(r"{{(\w+)}}", lambda one: found["metric"][one[1]], annotation["titleFormat"])
    assert title == "diamonds v2: widened, canary 5 %"
