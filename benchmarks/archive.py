"""How fast the archive writes: `python -m benchmarks.archive [URL]`; by default into a temporary SQLite file.

Log records become rows and are written in transactions of 2,000, into empty tables and then again, when all are there.
"""

import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from confluent_kafka import Message

from machine_learning_engineering.events.topics import LOGS
from monitoring.archive.database import Database
from monitoring.archive.rows import PROJECTIONS
from monitoring.archive.store import Store
from monitoring.settings import ArchiveSettings

RECORDS = 100_000
_RECORD = (
    '{"type":"prediction.logged.v1","request_id":"0197a5c2f0a1b2c3d4e5f6-%08d","model":"diamonds","outcome":"completed",'
    '"features":{"carat":0.23,"cut":"Ideal","color":"E","clarity":"SI2","depth":61.5,"table":55.0,"x":3.95,"y":3.98,'
    '"z":2.43},"requested_at":"%s","accepted_at":"%s","completed_at":"%s","queue_seconds":0.001,"score_seconds":0.002,'
    '"total_seconds":0.004,"batch_size":7,"partition":1,"offset":%d,"model_version":"v3","prediction":{"price":326.5},'
    '"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}'
)


def records() -> list[Message]:
    now = datetime.now(UTC)
    at = now.isoformat()
    stamp = 2, int(now.timestamp() * 1000)
    return [
        Message(topic=LOGS, partition=0, offset=n, value=(_RECORD % (n, at, at, at, n)).encode(), timestamp=stamp)
        for n in range(RECORDS)
    ]


def write(store: Store, found: list[Message]) -> tuple[float, float]:
    """Seconds, and CPU seconds of this process."""
    size = ArchiveSettings(_env_file=None).archive_batch_records  # type: ignore[call-arg]
    started, cpu = time.perf_counter(), time.process_time()
    for start in range(0, len(found), size):
        store.write([PROJECTIONS[LOGS].row(record) for record in found[start : start + size]])
    return time.perf_counter() - started, time.process_time() - cpu


def main() -> None:
    found = records()
    with tempfile.TemporaryDirectory() as folder:
        url = sys.argv[1] if len(sys.argv) > 1 else f"sqlite:///{Path(folder) / 'archive.sqlite'}"
        database = Database(url, timeout=60)
        database.upgrade()
        store = Store(database)
        for what in ("new", "again"):
            seconds, cpu = write(store, found)
            print(f"{what}: {RECORDS / seconds:,.0f} records/s, {1e6 * cpu / RECORDS:.0f} us of CPU a record")
        database.close()


if __name__ == "__main__":
    main()
