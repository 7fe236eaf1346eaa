"""One contract, every log of predictions: SQLite, the archive on SQLite and PostgreSQL, Elasticsearch on every kind of
search node."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from inflight.settings import Settings
from machine_learning_engineering.prediction_log.parquet import export_parquet
from machine_learning_engineering.prediction_log.sqlite import SqlitePredictionLog
from machine_learning_engineering.testing.log_store import run_store_check
from machine_learning_engineering.testing.log_store_checks import STORE_CHECKS, OpenLog, StoreCheck
from machine_learning_engineering.testing.log_store_examples import START, example, fresh
from monitoring.archive.prediction_log import ArchivePredictionLog
from monitoring.documents.log import INDEX_PATTERN
from monitoring.elastic import bulk, scan
from monitoring.elastic import client as elastic
from monitoring.elastic.prediction_log import ElasticsearchPredictionLog

ELASTICSEARCH_GAPS = {
    "check_duplicate_id_across_days_keeps_first": "an index is of one day, and an id unique within an index",
}


@pytest.fixture(scope="module")
def used() -> Iterator[set[str]]:
    """The search nodes that were written to; others of the session are to find them as they were."""
    urls: set[str] = set()
    yield urls
    for url in urls:
        query = {"size": 1_000, "query": {"prefix": {"inflight.model.name": "check-"}}}
        with elastic.connect(Settings(_env_file=None, elasticsearch_url=url)) as client:  # type: ignore[call-arg]
            elastic.request(client, "POST", f"/{INDEX_PATTERN}/_refresh")
            while found := scan.hits(client, INDEX_PATTERN, query):
                bulk.BulkSender(client, 10_000_000).delete([(hit["_index"], hit["_id"]) for hit in found])
                elastic.request(client, "POST", f"/{INDEX_PATTERN}/_refresh")


@pytest.fixture(
    params=["sqlite", "archive-sqlite", "archive-postgresql", "elasticsearch-embedded", "elasticsearch-real"]
)
def open_log(
    request: pytest.FixtureRequest, tmp_path: Path, used: set[str], new_archive: Callable[[str], str]
) -> OpenLog:
    """Opens one log of a kind."""
    store, _, kind = request.param.partition("-")
    if store == "sqlite":
        return lambda: SqlitePredictionLog(tmp_path / "log.sqlite")
    if store == "archive":
        address = new_archive(kind)
        return lambda: ArchivePredictionLog(address)
    url = request.getfixturevalue("search_url")(kind)
    used.add(url)
    settings = Settings(_env_file=None, home=tmp_path, elasticsearch_url=url)  # type: ignore[call-arg]
    return lambda: ElasticsearchPredictionLog(settings)


@pytest.mark.parametrize("check", STORE_CHECKS, ids=lambda check: check.__name__)
def test_the_log_passes_the_contract_checks(
    check: StoreCheck, open_log: OpenLog, request: pytest.FixtureRequest
) -> None:
    store = request.node.callspec.params["open_log"]
    if store.startswith("elasticsearch") and check.__name__ in ELASTICSEARCH_GAPS:
        request.applymarker(pytest.mark.xfail(strict=True, reason=ELASTICSEARCH_GAPS[check.__name__]))
    run_store_check(check, open_log)


def test_every_log_is_exported_to_the_same_parquet(open_log: OpenLog, tmp_path: Path) -> None:
    """Labels, failures and times of every record, in order."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra parquet")
    model = fresh()
    with open_log() as log:
        log.append([example(f"{model}-{n}", model, at=START + timedelta(microseconds=n)) for n in range(3)])
        log.label(f"{model}-1", {"price": 2.5})
        assert export_parquet(log.read(model), tmp_path / "log.parquet") == 3
    rows = parquet.read_table(tmp_path / "log.parquet").to_pylist()
    assert [row["request_id"] for row in rows] == [f"{model}-{n}" for n in range(3)]
    assert [row["label"] for row in rows] == [None, '{"price":2.5}', None]
    assert [row["created_at"] for row in rows] == [START + timedelta(microseconds=n) for n in range(3)]
    assert {row["features"] for row in rows} == {'{"number":1.0}'}
