"""`inflight models` and `inflight retrain`: each verb, as text and as JSON, and errors that name the fix."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

import inflight.adapters.promotions
from inflight.cli import app
from inflight.settings import Settings, load_settings
from machine_learning_engineering.core.example import Example
from machine_learning_engineering.kafka import promotions as announce
from machine_learning_engineering.prediction_log.sqlite import SqlitePredictionLog
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.sdk import MLEModel
from machine_learning_engineering.training.quick import train
from model import catalog


class Number(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    number: float


class Answer(msgspec.Struct, frozen=True):
    answer: float


class Line(MLEModel):
    name = "line"
    Features = Number
    Prediction = Answer
    primary_metric = "r2"

    @classmethod
    def examples(cls, data_dir: Path | None = None) -> Iterator[Example]:
        return iter(some(factor=2.0))

    def new_estimator(self, seed: int) -> Any:
        from sklearn.linear_model import LinearRegression

        return LinearRegression()

    def build_inputs(self, rows: Sequence[Number]) -> Any:
        return np.array([[row.number] for row in rows])

    def predict(self, rows: Sequence[Number]) -> Sequence[Answer]:
        return [Answer(value) for value in self.estimator.predict(self.build_inputs(rows)).tolist()]

    def evaluate(self, predictions: Sequence[Answer], labels: Sequence[float]) -> Mapping[str, float]:
        true = np.array(labels)
        errors = np.array([prediction.answer for prediction in predictions]) - true
        return {"r2": float(1 - (errors**2).mean() / true.var()), "mae": float(abs(errors).mean())}


def some(factor: float, count: int = 600, seed: int = 1) -> list[Example]:
    random = np.random.default_rng(seed)
    return [Example({"number": n}, factor * n + random.normal()) for n in random.uniform(1, 10, count).tolist()]


@pytest.fixture
def settings(tmp_path, monkeypatch) -> Iterator[Settings]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INFLIGHT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(catalog, "discover", lambda: catalog.Catalog({"line": Line}, {}))
    load_settings.cache_clear()
    yield load_settings()
    load_settings.cache_clear()


@pytest.fixture
def told(monkeypatch) -> list[tuple[str, str, str | None]]:
    """What workers were told: model, version, previous version."""
    calls: list[tuple[str, str, str | None]] = []
    monkeypatch.setattr(
        inflight.adapters.promotions,
        "announce_champion",
        lambda settings, model, version, *, reason, previous: calls.append((model, version, previous)),
    )
    return calls


@pytest.fixture
def registry(settings, told) -> Registry:
    """v1 was champion, v2 is; v3 is the challenger."""
    found = Registry(settings.registry_dir)
    for factor in (1.0, 2.0, 3.0):
        train(Line, settings, examples=some(factor), promote=False)
    found.promote("line", "v1", reason="the first")
    found.promote("line", "v2")
    found.promote("line", "v3", alias="challenger")
    return found


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


def run_json(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json"))


def test_list_shows_versions_with_aliases_and_metrics(registry):
    first, second, third = run_json("models", "list")
    assert [one["version"] for one in (first, second, third)] == ["v1", "v2", "v3"]
    assert [one["aliases"] for one in (first, second, third)] == [[], ["champion"], ["challenger"]]
    assert (second["champion"], third["champion"]) == (True, False)
    assert second["metrics"].keys() == {"r2", "mae"}
    assert set(second["files"]) == {"model.skops", "profile.json"}
    text = run("models", "list")
    assert "champion" in text
    assert "challenger" in text


def test_an_empty_registry_says_how_to_fill_it(settings):
    assert "run inflight train" in run("models", "list")
    assert run_json("models", "list") == []
    assert "run inflight train line" in run("models", "show", "line", code=2)


@pytest.mark.parametrize(
    "uri", ["line", "line@champion", "line:v2", "line:2", "models:/line@champion", "models:/line/2"]
)
def test_show_takes_every_way_to_name_a_version(registry, uri):
    found = run_json("models", "show", uri)
    assert (found["model"], found["version"], found["aliases"]) == ("line", "v2", ["champion"])


def test_show_tells_all_that_is_known(registry):
    found = run_json("models", "show", "line@champion")
    assert found["lineage"]["parent"] is None
    assert [change["version"] for change in found["history"]] == ["v1", "v2", "v3"]
    assert found["profile"]["features"]["number"]["kind"] == "number"
    assert found["features_schema"]["$defs"]["Number"]
    text = run("models", "show", "line")
    for part in ("line:v2 (champion), files verified", "r2 ", "seed ", "the first", "held-out answers", "sha256"):
        assert part in text


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("line:v9", "no version or alias 'v9'"),
        ("line@best", "no version or alias 'best'"),
        ("nothing", "run inflight train nothing"),
        ("../line", "is not the name of a model"),
    ],
)
def test_a_version_that_is_not_there_is_an_error_that_names_the_fix(registry, uri, message):
    assert message in run("models", "show", uri, code=2)


def test_promote_changes_the_champion_tells_workers_and_keeps_the_reason(registry, told):
    changed = run_json("models", "promote", "line:v1", "--reason", "was better")
    assert changed == {"model": "line", "alias": "champion", "previous": "v2", "version": "v1"}
    assert registry.champions() == {"line": "v1"}
    assert registry.history("line")[-1].reason == "was better"
    assert told == [("line", "v1", "v2")]
    assert "v1 is the champion already" in run("models", "promote", "line:v1")
    assert len(told) == 1


def test_promote_without_a_version_takes_the_challenger(registry, told):
    assert "line: champion v2 -> v3" in run("models", "promote", "line")
    assert registry.aliases("line") == {"champion": "v3"}


def test_another_alias_is_set_without_telling_workers(registry, told):
    assert run_json("models", "promote", "line:v1", "--alias", "candidate-2")["alias"] == "candidate-2"
    assert registry.aliases("line") == {"champion": "v2", "challenger": "v3", "candidate-2": "v1"}
    assert told == []
    assert "can't be an alias" in run("models", "promote", "line:v1", "--alias", "v7", code=2)


def test_a_damaged_version_is_not_promoted(registry, told):
    (registry.path / "line" / "v1" / "model.skops").write_bytes(b"damaged")
    assert "it was not opened" in run("models", "promote", "line:v1", code=1)
    assert (registry.champions(), told) == ({"line": "v2"}, [])


def test_rollback_goes_to_the_champion_before(registry, told):
    assert run_json("models", "rollback", "line", "--reason", "prices are off")["version"] == "v1"
    assert registry.champions() == {"line": "v1"}
    assert told == [("line", "v1", "v2")]
    assert "has no champion before v1" in run("models", "rollback", "line", code=2)
    assert registry.champions() == {"line": "v1"}


def test_compare_shows_metrics_side_by_side(registry):
    found = run_json("models", "compare", "line@champion", "line@challenger")
    assert (found["one"], found["other"], found["primary_metric"]) == ("line:v2", "line:v3", "r2")
    assert found["metrics"]["mae"]["difference"] == pytest.approx(
        found["metrics"]["mae"]["other"] - found["metrics"]["mae"]["one"]
    )
    assert (found["same_data"], found["same_schema"]) == (False, True)
    text = run("models", "compare", "line:1", "line:2")
    assert "r2 *" in text
    assert "their metrics are of different rows" in text


@pytest.mark.parametrize("servers", ["127.0.0.1:1", "127.0.0.1:1,[::1]:1", "nonsense"])
def test_without_a_broker_a_promotion_says_at_once_when_workers_find_it(monkeypatch, capsys, servers):
    # What takes seconds is a Kafka client that tries again and again: none is asked.
    monkeypatch.setattr(announce, "announce_promotion", lambda *_, **__: pytest.fail("a Kafka client was asked"))
    settings = Settings(_env_file=None, kafka_bootstrap_servers=servers)
    inflight.adapters.promotions.announce_champion(settings, "line", "v1", reason="", previous=None)
    said = capsys.readouterr().err
    assert f"no broker at {servers} to announce line v1. Running workers poll the registry every 10 s." in said


def test_a_broker_that_does_not_take_it_is_told_of(monkeypatch, capsys):
    def refuse(*arguments, **options):
        raise announce.PromotionNotAnnounced("line v1 was not announced on the stream: no such topic")

    monkeypatch.setattr(announce, "announce_promotion", refuse)
    monkeypatch.setattr(inflight.adapters.promotions, "anything_listens", lambda servers: True)
    inflight.adapters.promotions.announce_champion(Settings(_env_file=None), "line", "v1", reason="", previous=None)
    assert "no such topic. Running workers poll" in capsys.readouterr().err


# --- inflight retrain --------------------------------------------------------------------------------------------


@pytest.fixture
def served(registry, settings) -> dict[str, float]:
    """The champion's answers to rows whose true answer is now three times the number; the labels by request id."""
    champion = registry.open("line", model_class=Line)
    examples = some(3.0, seed=5)
    ids = [f"request-{number}" for number in range(len(examples))]
    with SqlitePredictionLog(settings.prediction_log) as log:
        champion.predict_with_logging([example.features for example in examples], log, request_ids=ids)
    return {one: example.label for one, example in zip(ids, examples, strict=True)}


def write_labels(path: Path, labels: dict[str, float]) -> str:
    lines = [f"{one},{label}" for one, label in labels.items()]
    path.write_text("\n".join(["request_id,label", *lines]) + "\n")
    return str(path)


def test_a_dry_run_says_that_retraining_is_due(registry, served, told, tmp_path):
    labels = write_labels(tmp_path / "labels.csv", served)
    decision = run_json("retrain", "line", "--labels", labels, "--dry-run")
    assert (decision["outcome"], decision["evidence"]["labelled"]) == ("retraining_due", 600)
    assert decision["evidence"]["metric"]["significant"]
    assert (registry.champions(), told) == ({"line": "v2"}, [])


def test_a_worse_champion_is_replaced_and_workers_are_told(registry, served, told, tmp_path):
    labels = write_labels(tmp_path / "labels.csv", served)
    text = run("retrain", "models:/line@champion", "--labels", labels)
    assert "line v2: promoted" in text
    assert (registry.champions(), told) == ({"line": "v4"}, [("line", "v4", "v2")])


def test_what_to_retrain_on_may_be_given(registry, served, told, tmp_path):
    data = tmp_path / "fresh.jsonl"
    examples = some(3.0, seed=6)
    data.write_bytes(
        b"".join(msgspec.json.encode({"features": e.features, "label": e.label}) + b"\n" for e in examples)
    )
    labels = write_labels(tmp_path / "labels.csv", served)
    decision = run_json("retrain", "line", "--labels", labels, "--data-source", str(data))
    assert (decision["outcome"], decision["challenger"]) == ("promoted", "v4")


def test_without_labels_and_drift_the_champion_is_kept(registry, served, told):
    text = run("retrain", "line", "--since", "1h")
    assert "line v2: kept" in text
    assert "no drift" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["line", "--labels", "nowhere.csv"], "the labels in nowhere.csv can't be read"),
        (["line", "--since", "soon"], "'soon' is not a time"),
        (["line", "-ds", "nowhere.csv"], "nowhere.csv is neither a file nor a folder"),
    ],
)
def test_what_is_not_there_is_named(registry, served, arguments, message):
    assert message in run("retrain", *arguments, code=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--log", "nowhere.sqlite"], "error: there is no prediction log at nowhere.sqlite"),
        (["-ds", "log"], "error: there is no prediction log at "),
        (["--log", "elasticsearch"], "is Elasticsearch running? `inflight status` shows it"),
    ],
)
def test_a_log_that_is_away_ends_with_2_in_one_line(registry, settings, monkeypatch, arguments, message):
    """And is no failed retraining, of which there would be a record."""
    monkeypatch.setenv("INFLIGHT_ELASTICSEARCH_URL", "http://127.0.0.1:1")
    load_settings.cache_clear()
    told = run("retrain", "line", *arguments, code=2)
    assert message in told
    assert len(told.splitlines()) == 1
    assert not (settings.home / "retraining").exists()


def test_an_unknown_model_is_named(registry):
    assert "no model is named nothing" in run("retrain", "nothing", code=2)


def test_a_failure_ends_with_1_and_its_reason(registry, served, tmp_path):
    (registry.path / "line" / "v2" / "model.skops").write_bytes(b"damaged")
    assert "model.skops of model `line` v2 has sha256" in run("retrain", "line", code=1)
    assert registry.champions() == {"line": "v2"}
