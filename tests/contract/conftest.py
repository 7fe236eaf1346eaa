"""What contract suites need: every model trained once, on its whole dataset; nodes by their kind, and their clients."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from inflight.settings import Settings
from inflight.stack.maven import missing_tools
from monitoring.archive.database import Database
from monitoring.archive.store import Store
from tests.support.broker_clients import Member, Send, confluent_sender, kafka_python_sender


@pytest.fixture
def search_url(nodes: Callable[[str, str], Any]) -> Callable[[str], str]:
    """`search_url("embedded" | "real")`: the session's search node of this kind; skips without Java and Maven."""

    def url(kind: str) -> str:
        if kind == "real" and (tools := missing_tools()):
            pytest.skip(f"no real node without {' and '.join(tools)}")
        found: str = nodes("search", kind).url
        return found

    return url


@pytest.fixture(params=[confluent_sender, kafka_python_sender], ids=["confluent", "kafka-python"])
def send(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Send]:
    with request.param(settings) as sender:
        yield sender


@pytest.fixture
def member(settings: Settings) -> Iterator[Callable[..., Member]]:
    """`member(group)` joins a consumer group; whoever is still in one at the end of the test leaves it."""
    members: list[Member] = []

    def join(group: str, **options: Any) -> Member:
        members.append(Member(settings, group, **options))
        return members[-1]

    yield join
    for joined in members:
        joined.consumer.close()


@pytest.fixture
def database(archive_url: str) -> Iterator[Database]:
    opened = Database(archive_url)
    opened.upgrade()
    yield opened
    opened.close()


@pytest.fixture
def store(database: Database) -> Store:
    return Store(database)
