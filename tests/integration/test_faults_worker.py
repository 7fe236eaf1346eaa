"""Workers that are killed, stopped in their tracks, and come and go: nothing is lost and nothing answered twice."""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from random import Random
from threading import Semaphore

from inflight.demo.bad_records import bad_records
from machine_learning_engineering.dead_letters.letter import read_origin, without_origin
from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.schemas import PredictionFailed
from machine_learning_engineering.events.topics import DEAD_LETTERS, REQUESTS, RESULTS
from machine_learning_engineering.kafka.client import read_to_end
from producers.request_builder import Record, Source
from producers.sources import Request
from stream_app.serving.batch import MAX_KEY_BYTES
from tests.support.deployment import SESSION_TIMEOUT, UNTIL_STOPPED, Deployment
from tests.support.doses import FULL
from tests.support.supervised import Supervised
from tests.support.waiting import figures, until

KILLS = 10 if FULL else 4
KILLED_REQUESTS = 2_000 * KILLS


def test_kills_of_three_workers_lose_nothing(deployment: Deployment, chance: Random) -> None:
    """kill -9 of a random worker at random moments, once for each 2,000 requests; each is started again at once."""
    turns = Semaphore(1)

    def source() -> Iterator[Source]:
        # Between any two kills, a part of the requests: else a slow machine kills workers that have nothing to do.
        for number, features in enumerate(deployment.diamonds(KILLED_REQUESTS)):
            if number % (KILLED_REQUESTS // (KILLS + 1) + 1) == 0:
                assert turns.acquire(timeout=800)
            yield features

    workers = [deployment.worker() for _ in range(3)]
    deployment.serving(3)
    load = deployment.load(source(), rate=600)
    serving: list[Supervised] = []

    def somebody_serves() -> bool:
        serving[:] = [worker for worker in workers if worker.serves()]
        return bool(serving)

    for _ in range(KILLS):
        # In the middle of its work, wherever that is: after so many further results.
        deployment.answers_more(by=chance.randrange(1_000))
        until(somebody_serves, 300, "a worker owns partitions")
        deployment.kill(chance.choice(serving))
        turns.release()
    killed = time.monotonic()
    report = load.report()
    deployment.settles()
    recovered = time.monotonic() - killed
    codes = Counter(code for worker in workers for code in worker.exit_codes)
    assert codes == {-signal.SIGKILL: KILLS}
    found = deployment.verify(report, repeats=True)
    assert found.completed == KILLED_REQUESTS
    figures(kills=KILLS, repeats=found.repeats, settled_after_last_kill=f"{recovered:.1f} s", p99_ms=found.p99_ms)


def test_one_percent_poison_each_becomes_what_it_has_to(deployment: Deployment) -> None:
    """10,000 requests with every kind of bad record among them, each with headers of its own."""
    bad = [record for number in range(4) for record in bad_records(f"bad{number}")][:100]
    poison = iter(enumerate(bad))

    def source() -> Iterator[Source]:
        for number, features in enumerate(deployment.diamonds(9_900)):
            yield Request(features)
            if number % 99 == 0:
                index, record = next(poison)
                yield Record(record.value, record.key, _headers(index))

    deployment.worker()
    deployment.worker()
    deployment.serving(2)
    report = deployment.load(source()).report()
    assert next(poison, None) is None
    deployment.settles()
    found = deployment.verify(report, repeats=False)
    set_aside = [record for record in bad if record.is_dead_letter]
    assert (found.accepted, found.completed) == (10_000, 9_900)
    assert (found.dead_letters, found.failed) == (len(set_aside), len(bad) - len(set_aside))

    sent = {
        (record.partition(), record.offset()): record
        for record in read_to_end(deployment.settings, REQUESTS)
        if record.headers()
    }
    expected = {_headers(number)[0][1]: record for number, record in enumerate(bad)}
    letters = {}
    for letter in read_to_end(deployment.settings, DEAD_LETTERS):
        origin = read_origin(letter.headers())
        original = sent[origin.partition, origin.offset]
        # Of a key above its limit, a part is kept, and the origin says so.
        key, value = original.key(), original.value()
        is_cut = len(key or b"") > MAX_KEY_BYTES
        assert (letter.key(), letter.value()) == (key[:MAX_KEY_BYTES] if is_cut else key, value)
        assert (origin.truncated or 0) >= len(key) if is_cut else origin.truncated is None
        headers = without_origin(letter.headers())
        assert headers == original.headers()
        letters[headers[0][1]] = origin
        record = expected[headers[0][1]]
        assert (origin.reason, origin.stage) == (record.outcome, "decode"), record.name
        assert record.names in origin.message, record.name
        assert (key, value or b"") == (record.key, record.value or b"")
    assert letters.keys() == {number for number, record in expected.items() if record.is_dead_letter}

    answered = [events.decode_result(record.value()) for record in read_to_end(deployment.settings, RESULTS)]
    failures = {result.request_id: result.error for result in answered if isinstance(result, PredictionFailed)}
    for record in bad:
        if not record.is_dead_letter:
            error = failures.pop((record.key or b"").decode())
            assert error.type == record.outcome, record.name
            assert record.names in error.message, record.name
    assert not failures
    figures(kinds=len({record.name for record in bad}), dead_letters=found.dead_letters, failed=found.failed)


def _headers(number: int) -> list[tuple[str, bytes]]:
    return [("number", str(number).encode()), ("traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01")]


def test_a_worker_that_sleeps_through_its_session_repeats_at_most(deployment: Deployment) -> None:
    """SIGSTOP for two session time-outs under load: the other takes over; the zombie comes back by itself."""
    zombie, _ = deployment.worker(), deployment.worker()
    deployment.serving(2)
    load = deployment.load(UNTIL_STOPPED, rate=400)
    taken_over = []
    for _ in range(3 if FULL else 1):
        deployment.answers_more(400)
        stopped = time.monotonic()
        os.kill(zombie.pid, signal.SIGSTOP)
        taken_over.append(until(lambda: deployment.owners() == [4], 300, "the other worker owns all partitions"))
        until(lambda since=stopped: time.monotonic() - since > 2 * SESSION_TIMEOUT, 60, "two session time-outs passed")
        os.kill(zombie.pid, signal.SIGCONT)
        deployment.serving(2)
    load.stop()
    report = load.report()
    deployment.settles()
    found = deployment.verify(report, repeats=True)
    figures(
        requests=found.accepted,
        repeats=found.repeats,
        taken_over_after=[f"{seconds:.1f} s" for seconds in taken_over],
        zombie_exits=zombie.exit_codes,
    )


def test_workers_that_come_and_go_cleanly_repeat_nothing(deployment: Deployment) -> None:
    """One worker stays, another joins and leaves again and again, with requests waiting all the time."""
    bounds = {"worker_max_batch_records": 16, "worker_max_in_flight_batches": 2, "worker_buffer_bytes": 1_000_000}
    host = deployment.worker(**bounds)
    deployment.serving(1)
    load = deployment.load(UNTIL_STOPPED, rate=500)
    left = []
    while len(left) < (12 if FULL else 2):
        guest = deployment.worker(**bounds)
        deployment.serving(2)
        deployment.answers_more(500)
        left.append(deployment.stop(guest))
        deployment.serving(1)
    load.stop()
    report = load.report()
    deployment.settles()
    found = deployment.verify(report, repeats=False)
    assert host.exit_codes == []
    assert max(left) < 30
    figures(requests=found.accepted, leaves=len(left), longest_leave=f"{max(left):.1f} s", p99_ms=found.p99_ms)
