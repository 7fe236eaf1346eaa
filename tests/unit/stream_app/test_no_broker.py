"""A worker that no broker answers."""

import os
import re
import subprocess
import sys
from pathlib import Path

from inflight.stack.process import free_port

WORKER = """
from functools import partial
from machine_learning_engineering.observability.logging import configure_logging
from stream_app import worker
worker.require_topics = partial(worker.require_topics, timeout=4)
settings = worker.WorkerSettings()
configure_logging("worker", settings, packages=("stream_app",))
worker.Worker(settings, {}).run()
"""


def test_it_says_once_where_it_looks_and_ends(tmp_path: Path) -> None:
    """Not with a line for each attempt of each client, nor with a stack trace."""
    address = f"127.0.0.1:{free_port()}"
    environment = os.environ | {
        "INFLIGHT_HOME": str(tmp_path),
        "INFLIGHT_KAFKA_BOOTSTRAP_SERVERS": address,
        "INFLIGHT_LOG_FORMAT": "text",
        "INFLIGHT_WORKER_METRICS_PORT": "0",
    }
    done = subprocess.run(
        [sys.executable, "-P", "-c", WORKER], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    waits, ends = done.stderr.splitlines()
    for line, level in ((waits, "WARNING"), (ends, "CRITICAL")):
        assert re.search(rf"{level}.*no response from Kafka at {address} \(.+\): check INFLIGHT_KAFKA_BOOTSTRAP_", line)
    assert waits.endswith("trying again")
