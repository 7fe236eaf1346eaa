"""One pass of retraining: what is due is trained in its place of the registry, rolled out, and never promoted."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

import inflight.adapters.rollouts
from inflight.adapters.retrainer import starter
from inflight.retrainer.child import Interrupted
from inflight.retrainer.due import BUSY, Retrainer, only_one
from inflight.retrainer.evidence import Champion, EvidenceUnavailable, Seen
from inflight.retrainer.holder import is_gone, this_process
from inflight.retrainer.job import Job, Result
from inflight.retrainer.reports import Report
from inflight.retrainer.training import do
from inflight.settings import Settings, load_settings
from machine_learning_engineering.core.example import Example
from machine_learning_engineering.prediction_log.sqlite import SqlitePredictionLog
from machine_learning_engineering.registry import retrainings, rollouts
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.retraining.triggers import DriftSeen, QualitySeen
from machine_learning_engineering.rollout.policy import ModelPolicy, RetrainingPolicy
from machine_learning_engineering.rollout.record import Bar
from tests.support.line_model import Line, run, run_json, some

HOURLY = RetrainingPolicy(schedule="0 * * * *", drift=False, quality=False, cool_down=0)


class Stream:
    """Evidence that a test states."""

    seen = Seen()
    problem = ""

    def read(self, champions: Mapping[str, Champion], now: datetime) -> dict[str, Seen]:
        if self.problem:
            raise EvidenceUnavailable(self.problem)
        return dict.fromkeys(champions, self.seen)


class Passes:
    """Passes over the model `line` at times that a test states; the training is done in this process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings.model_copy(update={"retrain_log": str(settings.prediction_log)})
        self.registry = Registry(settings.registry_dir)
        self.stream = Stream()
        # The next full hour but one: after the training of the champion.
        self.now = datetime.now(UTC).replace(minute=5) + timedelta(hours=2)
        self.jobs: list[Job] = []
        self.before_training: Callable[[], None] = lambda: None

    def look(self, rules: RetrainingPolicy = HOURLY, **options: Any) -> Report:
        start = starter(self.settings)
        retrainer = Retrainer(self.settings, self.stream, self._train, start, clock=lambda: self.now)
        [report] = retrainer.run({"line": ModelPolicy(rules)}, **options)
        return report

    def _train(self, job: Job, *, seconds: float, on_progress: Any, **options: Any) -> Result:
        assert 0 < seconds <= job.policy.deadline
        self.jobs.append(job)
        self.before_training()
        return Result(**msgspec.structs.asdict(do(job, self.settings, on_progress)))

    @property
    def runs(self) -> list[tuple[str, str, int]]:
        known = retrainings.read(self.registry.files, "line")
        return [(run.trigger.slot, run.outcome, run.attempts) for run in known.runs]


@pytest.fixture
def passes(line_registry: Registry, line_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Passes:
    monkeypatch.setattr(inflight.adapters.rollouts, "announce", lambda *arguments: None)
    return Passes(line_settings)


def log(passes: Passes, examples: list[Example], *, labelled: bool = True, prefix: str = "r") -> None:
    champion = passes.registry.open("line", model_class=Line)
    ids = [f"{prefix}-{number}" for number in range(len(examples))]
    with SqlitePredictionLog(passes.settings.prediction_log) as opened:
        champion.predict_with_logging([one.features for one in examples], opened, request_ids=ids)
        for one, example in zip(ids, examples, strict=True):
            if labelled:
                opened.label(one, example.label)


def test_what_is_due_is_trained_and_rolled_out_but_not_promoted(passes: Passes) -> None:
    log(passes, some(3.0, seed=5))
    profile = passes.registry.profile("line", "v2")
    assert passes.look(dry_run=True).outcome == "due"
    assert passes.runs == []
    report = passes.look()
    assert (report.outcome, report.version, report.rows, report.trigger) == ("rollout", "v4", 600, "schedule")
    assert passes.runs == [(report.slot, "rollout", 1)]
    rollout = passes.registry.rollout("line")
    assert rollout is not None
    assert (rollout.champion, rollout.challenger, rollout.trigger) == ("v2", "v4", report.slot)
    assert rollout.steps[0].by == "retrainer"
    assert passes.registry.champions() == {"line": "v2"}
    # The reference stays that of the champion until a promotion.
    assert passes.registry.profile("line", "v2") == profile
    manifest = passes.registry.manifest("line", "v4")
    assert manifest.lineage.training_run == f"line/{report.slot}"
    assert manifest.params["retraining"]["trigger"]["reason"] == "the schedule 0 * * * *"
    assert passes.look().reason == "a rollout is open: v2 to v4 (shadow)"
    assert len(passes.jobs) == 1


def test_drift_and_quality_are_evidence_and_quality_is_confirmed_on_the_log(passes: Passes) -> None:
    log(passes, some(3.0, seed=5))
    rules = RetrainingPolicy(cool_down=0, false_alarms_per_year=0.9)
    end = passes.now
    drift = DriftSeen("w-7", end - timedelta(hours=1), end, end - timedelta(hours=3), 1e-12, ("features.number",))
    passes.stream.seen = Seen(drift, None, 600, 10)
    assert "with 10 labels since then: at least 200 are needed" in passes.look(rules).reason
    quality = QualitySeen(end, "r2", 0.1, 0.2, 0.98, 600)
    passes.stream.seen = Seen(None, quality, 600, 0)
    report = passes.look(rules)
    assert (report.trigger, report.outcome, report.version) == ("quality", "rollout", "v4")
    assert passes.registry.manifest("line", "v4").params["retraining"]["trigger"]["evidence"]["reference"] == 0.98


def test_quality_that_the_log_does_not_confirm_trains_nothing(passes: Passes) -> None:
    log(passes, some(2.0, seed=5))
    quality = QualitySeen(passes.now, "r2", 0.1, 0.2, 0.98, 600)
    passes.stream.seen = Seen(None, quality, 600, 0)
    report = passes.look(RetrainingPolicy(false_alarms_per_year=0.5))
    assert (report.outcome, report.version) == ("kept", "")
    assert "is not significantly lower" in report.reason
    assert passes.registry.versions("line") == ["v1", "v2", "v3"]
    assert passes.look(RetrainingPolicy(false_alarms_per_year=0.5)).outcome == "not_due"


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        (some(3.0, 199), "199 labelled rows are too few to train on, at least 200 are needed"),
        ([Example(one.features, 7.0) for one in some(3.0, 300)], "all 300 labels are the same"),
    ],
)
def test_data_that_can_not_be_trained_on_are_refused(passes: Passes, rows: list[Example], why: str) -> None:
    log(passes, rows)
    report = passes.look()
    assert report.outcome == "refused"
    assert why in report.reason
    assert passes.registry.versions("line") == ["v1", "v2", "v3"]


def test_rows_of_a_barred_version_are_refused(passes: Passes) -> None:
    log(passes, some(3.0, seed=5))
    assert passes.look().version == "v4"
    bar = Bar(passes.now, "controller", "rolled back")
    rollouts.change(
        passes.registry.files, "line", lambda found: msgspec.structs.replace(found, current=None, barred={"v4": bar})
    )
    passes.now += timedelta(hours=1)
    report = passes.look()
    assert report.outcome == "refused"
    assert "these are the rows of v4, which is barred" in report.reason


def test_a_log_that_fails_is_a_failed_run_that_is_tried_again(passes: Passes) -> None:
    report = passes.look()
    assert report.outcome == "failed"
    assert "there is no prediction log at" in report.reason
    log(passes, some(3.0, seed=5))
    again = passes.look()
    assert (again.outcome, again.slot) == ("rollout", report.slot)
    assert passes.runs == [(report.slot, "rollout", 2)]


def test_a_stream_that_fails_leaves_the_schedule(passes: Passes) -> None:
    log(passes, some(3.0, seed=5))
    passes.stream.problem = "no response"
    assert (
        passes.look(RetrainingPolicy()).reason == "nothing is due; drift, quality and labels are unknown: no response"
    )
    assert passes.look(msgspec.structs.replace(HOURLY, drift=True)).outcome == "rollout"


def test_one_run_of_a_model_at_a_time(passes: Passes) -> None:
    log(passes, some(3.0, seed=5))
    inner: list[Report] = []
    other = Passes(passes.settings)
    other.now = passes.now
    passes.before_training = lambda: inner.append(other.look())
    assert passes.look().outcome == "rollout"
    assert inner[0].outcome == "not_due"
    assert "runs by" in inner[0].reason


def test_one_at_a_time_on_a_machine(passes: Passes) -> None:
    with only_one(passes.settings) as is_free:
        assert is_free
        report = passes.look()
    assert (report.outcome, report.reason, passes.runs) == ("not_due", BUSY, [])


def test_a_process_that_has_to_stop_gives_its_run_back(passes: Passes) -> None:
    log(passes, some(3.0, seed=5))

    def stop() -> None:
        raise Interrupted

    passes.before_training = stop
    report = passes.look()
    assert report.outcome == "interrupted"
    passes.before_training = lambda: None
    assert passes.look().slot == report.slot
    assert passes.runs == [(report.slot, "rollout", 1)]


def test_a_run_that_was_taken_over_is_not_finished_by_the_one_that_lost_it(passes: Passes) -> None:
    """A machine that slept over its deadline."""
    log(passes, some(3.0, seed=5))
    home = passes.settings.home
    other = Passes(passes.settings.model_copy(update={"home": home.parent / "other", "registry": home / "registry"}))
    other.settings = other.settings.model_copy(update={"retrain_log": passes.settings.retrain_log})

    def sleep() -> None:
        passes.before_training = lambda: None
        other.now = passes.now + timedelta(hours=2)
        assert other.look().outcome == "rollout"

    passes.before_training = sleep
    report = passes.look()
    assert report.outcome == "unreadable"
    assert "was taken over by" in report.reason
    known = retrainings.read(passes.registry.files, "line")
    assert [(run.outcome, run.attempts) for run in known.runs] == [("rollout", 2)]
    rollout = passes.registry.rollout("line")
    assert rollout is not None
    assert rollout.challenger == known.runs[0].version


def test_this_process_is_not_gone_and_another_one_is() -> None:
    holder = this_process()
    assert not is_gone(holder)
    assert is_gone(msgspec.structs.replace(holder, started=holder.started + 1))
    assert is_gone(msgspec.structs.replace(holder, pid=2**22 + 1))
    # Of another machine nothing is known.
    assert not is_gone(msgspec.structs.replace(holder, machine="other", pid=2**22 + 1))


def test_the_command(line_registry: Registry, line_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Policies are those of the home."""
    path = line_settings.home / "inflight.toml"
    assert run_json("retrain", "--due") == []
    path.write_text('[models.line.retraining]\nmax_age = "1d"\ndrift = false\nquality = false\n')
    path.chmod(0o600)
    [report] = run_json("retrain", "--due")
    assert (report["model"], report["outcome"], report["reason"]) == ("line", "not_due", "nothing is due")
    assert "line: not due\n  nothing is due" in run("retrain", "line", "--due", "--dry-run")
    assert "has no [models.titanic.retraining]" in run("retrain", "titanic", "--due", code=2)
    assert "--due takes --dry-run and --json alone" in run("retrain", "--due", "--promote", code=2)
    assert "name a MODEL" in run("retrain", code=2)
    path.write_text("[models.line.retraining]\nmax_aeg = 1\n")
    assert "line 2: models.line.retraining.max_aeg" in run("retrain", "--due", code=2)
    monkeypatch.setenv("INFLIGHT_RETRAIN_PROMOTE", "true")
    load_settings.cache_clear()
    assert "a due retraining never promotes" in run("retrain", "--due", code=2)
