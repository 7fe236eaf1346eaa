"""The cases: each is a process that reads requests, answers them, and runs until SIGTERM."""

from typing import NamedTuple


class Case(NamedTuple):
    """A process to measure: ``python -m module``. `what` describes it."""

    module: str
    what: str


CASES = {
    "worker": Case("stream_app", "Inflight worker: results and logs"),
    "bare": Case("benchmarks.cases.bare", "bare confluent-kafka loop: results"),
    "bare-logged": Case("benchmarks.cases.bare_logged", "bare confluent-kafka loop: results and logs"),
    "aiokafka": Case("benchmarks.cases.aiokafka_batch", "aiokafka batch loop: results"),
    "kafka-python": Case("benchmarks.cases.kafka_python_batch", "kafka-python batch loop: results"),
    "faststream": Case("benchmarks.cases.faststream_batch", "FastStream batch subscriber: results"),
    "faust": Case("benchmarks.cases.plain_faust", "plain Faust take(1024) and send: results"),
}
REFERENCE = "bare"
"""The case that the others are compared with, in the same round."""

# The least work first: the broker's own code is compiled while it runs, at the expense of the first case.
LATENCY_CASES = {
    "echo": Case("benchmarks.cases.echo", "bare confluent-kafka loop without a model"),
    "bare": CASES["bare"],
    "worker": CASES["worker"],
}
