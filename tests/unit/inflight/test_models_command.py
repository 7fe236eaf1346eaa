"""`inflight models`: each verb, as text and as JSON, and errors that name the fix."""

import pytest

import inflight.adapters.promotions
from inflight.settings import Settings, load_settings
from machine_learning_engineering.kafka import promotions as announce
from machine_learning_engineering.registry.registry import Registry
from tests.support.line_model import run, run_json


@pytest.fixture
def settings(line_settings: Settings) -> Settings:
    return line_settings


@pytest.fixture
def registry(line_registry: Registry) -> Registry:
    return line_registry


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


def test_a_registry_is_signed_once_there_is_a_key(registry, monkeypatch):
    assert "there is no key to sign with" in run("models", "sign", code=2)
    monkeypatch.setenv("INFLIGHT_REGISTRY_SIGNING_KEY", "k" * 32)
    load_settings.cache_clear()
    assert "aliases.json is not signed" in run("models", "list", code=1)
    assert run_json("models", "sign") == {"signed": ["line:v1", "line:v2", "line:v3", "the aliases of line"]}
    assert [one["version"] for one in run_json("models", "list")] == ["v1", "v2", "v3"]
    run("models", "promote", "line:v1")
    assert '"signature": "hmac-sha256 ' in (registry.path / "line" / "aliases.json").read_text()
    load_settings.cache_clear()


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
