"""Three gateways behind one address, a proxy that is not ours in front of them: what a client of that address sees."""

import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from inflight.settings import Settings
from inflight.stack.process import free_port
from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.topics import REQUESTS, RESULTS
from machine_learning_engineering.kafka.client import read_to_end
from monitoring.audit.readers import run_audit
from monitoring.exporter.lag import LagReader
from monitoring.runtime.groups import ARCHIVE
from tests.support.deployment import Deployment
from tests.support.doses import FULL
from tests.support.durability import needs_durable_nodes
from tests.support.http_clients import Event, Users, call
from tests.support.proxy import proxy
from tests.support.supervised import Supervised
from tests.support.waiting import figures, until

GATEWAYS = 3
RECOVERY_SECONDS = 5.0
"""After a component is back: so long clients may still meet errors."""
VALUE, PREDICTIONS = "/v1/diamonds/value", "/v1/predictions"
USERS = 4 if FULL else 3
ROUNDS = 4 if FULL else 1


class Outage(NamedTuple):
    """A component that was taken away: when, and when it was back."""

    component: str
    begun: float
    back: float


@pytest.fixture
def ports() -> list[int]:
    return [free_port() for _ in range(GATEWAYS)]


def requests_of(gateway: Supervised) -> float:
    return gateway.metric("inflight_gateway_requests_total", route="/v1/predictions/{request_id:path}")


def test_any_gateway_answers_for_any_other(
    deployment: Deployment, settings: Settings, ports: list[int], tmp_path: Path
) -> None:
    """An order that one gateway takes is polled, repeated and contradicted at all, before and after its result."""
    gateways = [deployment.gateway(port) for port in ports]
    until(lambda: all(one.serves() for one in gateways), 180, "the gateways are ready")
    address = free_port()
    row, other = deployment.diamonds(2)
    with proxy(tmp_path, address, ports):
        key = {"Idempotency-Key": "order-1"}
        accepted = call(address, "POST", VALUE, row, key | {"Prefer": "respond-async"})
        assert accepted.status == 202, accepted
        where = accepted.headers["location"]
        # A gateway knows of an order of another one as soon as it has read it from the topic.
        until(lambda: all(call(port, "GET", where).status == 202 for port in ports), 60, "all know the order")
        for _ in range(2 * GATEWAYS):
            assert call(address, "GET", where).status == 202
            assert call(address, "POST", VALUE, row, key).status == 409
            assert call(address, "POST", VALUE, other, key).status == 422
        deployment.worker()
        until(lambda: all(call(port, "GET", where).status == 200 for port in ports), 180, "all have the answer")
        polls = [call(address, "GET", where) for _ in range(2 * GATEWAYS)]
        repeats = [call(address, "POST", VALUE, row, key) for _ in range(2 * GATEWAYS)]
        assert {one.status for one in polls + repeats} == {200}
        assert len({json.dumps(one.body, sort_keys=True) for one in polls}) == 1
        assert len({json.dumps(one.body, sort_keys=True) for one in repeats}) == 1
        assert call(address, "POST", VALUE, other, key).status == 422
        many = call(
            address, "POST", "/v1/models/diamonds/predictions", {"rows": [row, other] * 20}, {"Prefer": "wait=50"}
        )
        assert many.status == 200, many
        assert len(many.body["predictions"]) == 40
        batch = f"{PREDICTIONS}/{many.body['request_id']}"
        until(lambda: all(call(port, "GET", batch).status == 200 for port in ports), 60, "all have the batch")
        assert {len(call(address, "GET", batch).body["predictions"]) for _ in range(GATEWAYS)} == {40}
    assert all(requests_of(gateway) > GATEWAYS for gateway in gateways), "the proxy asks each of them"
    assert len(list(read_to_end(settings, REQUESTS))) == 41, "each row was published once"


class Client:
    """Users of the address, and what they saw."""

    def __init__(self, address: int, rows: list[dict[str, Any]], prefix: str) -> None:
        self.users = [Users(f"{prefix}user{number}", [address], rows, pause=0.02, wait=5) for number in range(USERS)]
        for user in self.users:
            user.start()
        self.goes_on(20)

    def goes_on(self, answers: int = 20) -> None:
        """Wait until every user has so many more answers."""
        wanted = [(user, len(user.answers) + answers) for user in self.users]

        def are_answered() -> bool:
            for user in self.users:
                assert user.failure is None, user.failure
            return all(len(user.answers) >= count for user, count in wanted)

        until(are_answered, 240, "all users get answers")

    def stop(self) -> None:
        for user in self.users:
            user.stop()

    @property
    def answers(self) -> dict[str, Any]:
        return {name: body for user in self.users for name, body in user.answers.items()}

    def errors(self) -> list[Event]:
        """Responses with a status of 5xx, and connections without a response."""
        return [event for user in self.users for event in user.events if event.status >= 500 or not event.status]


@pytest.mark.timeout(1_800)
@pytest.mark.parametrize(
    "components",
    [
        pytest.param(["gateway", "worker", "broker"], id="kills", marks=needs_durable_nodes),
        pytest.param(["rolling"], id="rolling"),
    ],
)
def test_clients_of_one_address_through_faults(
    deployment: Deployment,
    settings: Settings,
    broker: Any,
    search: Any,
    ports: list[int],
    tmp_path: Path,
    components: list[str],
) -> None:
    """Each 2xx is in the log, the index and the archive, no id has two answers; errors end soon after each return.

    Kills are kill -9; `rolling` is a restart of every component, one after the other, as an update does it.
    """
    gateways = [deployment.gateway(port) for port in ports]
    workers = [deployment.worker() for _ in range(2)]
    indexer, archive = deployment.indexer(), deployment.archive()
    deployment.serving(2)

    def are_ready() -> None:
        until(lambda: all(one.serves() for one in gateways), 180, "the gateways are ready")

    def kill_broker() -> None:
        broker.restart(hard=True)
        are_ready()
        deployment.serving(2)

    def kill_gateway() -> None:
        runs = len(gateways[0].exit_codes)
        deployment.kill(gateways[0])
        until(lambda: len(gateways[0].exit_codes) > runs, 60, "it is gone")
        are_ready()

    def kill_worker() -> None:
        deployment.kill(workers[0])
        deployment.serving(2)

    def update(process: Supervised, ready: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            deployment.stop(process)
            deployment.start(process)
            ready()

        return run

    def update_broker() -> None:
        broker.restart()
        are_ready()
        deployment.serving(2)

    # One of a kind shows what the next one does.
    replicas = None if FULL else 1
    kills = {"gateway": kill_gateway, "worker": kill_worker, "broker": kill_broker}
    updates = {f"worker {n}": update(one, lambda: deployment.serving(2)) for n, one in enumerate(workers[:replicas], 1)}
    for name, process in (("indexer", indexer), ("archive", archive)):
        updates[name] = update(process, lambda one=process: until(one.serves, 180, "it is ready"))
    updates |= {f"gateway {n}": update(one, are_ready) for n, one in enumerate(gateways[:replicas], 1)}
    updates |= {"broker": update_broker}
    steps = updates if components == ["rolling"] else {name: kills[name] for name in components}
    are_ready()
    address = free_port()
    outages: list[Outage] = []
    with proxy(tmp_path, address, ports):
        client = Client(address, list(deployment.diamonds(200)), f"{components[0]}-")
        for _ in range(ROUNDS):
            for name, step in steps.items():
                begun = time.monotonic()
                step()
                outages.append(Outage(name, begun, time.monotonic()))
                # Longer than what is allowed after it, so that each error belongs to one component.
                until(lambda: time.monotonic() > outages[-1].back + RECOVERY_SECONDS, 60, "its time is over")
                client.goes_on()
        client.stop()
        deployment.settles(index=True)
        check_outcomes(settings, address, client.answers)
    lost_calls = check_archive(settings, client.answers)
    # Those that a gateway had answered in the moment before it was killed.
    assert len(lost_calls) <= (0 if components == ["rolling"] else 5 * USERS * ROUNDS), lost_calls
    for gateway in gateways:
        lines = gateway.log_path.read_text().splitlines()
        assert len(lines) < 50 * ROUNDS, "\n".join(lines[-50:])
    # Of what began later than that, all is answered within the five seconds that these users wait.
    seen = {
        one: [e.at for e in client.errors() if one.begun <= e.at and e.began <= one.back + RECOVERY_SECONDS]
        for one in outages
    }
    explained = {at for found in seen.values() for at in found}
    unexplained = [one for one in client.errors() if one.at not in explained]
    assert not unexplained, (unexplained, outages)
    figures(
        answers=len(client.answers),
        calls_not_archived=len(lost_calls),
        **{
            f"{one.component.replace(' ', '_')}_{number}": (
                f"{one.back - one.begun:.1f} s away, {len(at)} errors"
                + (
                    f" within {max(at) - min(at):.1f} s, the last {max(at) - one.back:+.1f} s from its return"
                    if at
                    else ""
                )
            )
            for number, (one, at) in enumerate(seen.items(), 1)
        },
    )


def check_outcomes(settings: Settings, address: int, answers: dict[str, Any]) -> None:
    """What clients were told is what the topics and the index say, and what they are told again."""
    found = run_audit(settings, settings.topic_prefix, index=True)
    assert found.passed, found
    assert found.conflicts == found.unindexed == 0, found
    assert found.accepted == found.completed, found
    results: dict[str, Any] = {}
    for record in read_to_end(settings, RESULTS):
        event: Any = events.decode_result(record.value() or b"")
        results.setdefault(event.request_id, json.loads(bytes(event.prediction)))
    missing = sorted(answers.keys() - results.keys())
    assert not missing, f"{len(missing)} of {len(answers)} have no result on the topic: {missing[:5]}, {found}"
    for name, body in answers.items():
        assert results[name] == {field: body[field] for field in results[name]}, name
    for name in list(answers)[:: max(1, len(answers) // 60)]:
        again = call(address, "GET", f"{PREDICTIONS}/{name}")
        assert again.status == 200, again
        assert again.body["prediction"] == results[name], name


def check_archive(settings: Settings, answers: dict[str, Any]) -> set[str]:
    """Each answer is in the archive as the client has it. Returns the ids whose answered call is not there."""

    def select(sql: str) -> dict[str, str]:
        with closing(sqlite3.connect(f"file:{settings.home / 'archive.sqlite'}?mode=ro", uri=True)) as connection:
            return dict(connection.execute(sql).fetchall())

    predictions = "SELECT request_id, prediction FROM predictions WHERE outcome = 'completed'"
    until(lambda: answers.keys() <= select(predictions).keys(), 300, "the archive has every answer")
    for name, prediction in select(predictions).items():
        found = json.loads(prediction)
        assert name not in answers or found == {field: answers[name][field] for field in found}, name
    lag = LagReader(settings, timeout=20.0)
    until(lambda: not any(behind for (group, _), behind in lag.read().items() if group == ARCHIVE), 300, "it has all")
    calls = "SELECT request_id, MIN(status) FROM api_calls WHERE status < 300 AND method = 'POST' GROUP BY request_id"
    return answers.keys() - select(calls).keys()
