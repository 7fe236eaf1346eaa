"""What may be imported without Faust or a Kafka client."""

import subprocess
import sys

import pytest

SHOW = "import sys, {module}; print(*sorted({{name.split('.')[0] for name in sys.modules}} & {{{names}}}))"
KAFKA, FAUST = ("confluent_kafka", "librdkafka", "aiokafka"), ("faust", "mode")


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("stream_app.serving.scorer", FAUST + KAFKA),
        ("stream_app.kafka.poller, stream_app.kafka.offsets, stream_app.kafka.publisher", FAUST),
        ("stream_app.runtime.scheduler, stream_app.runtime.watchdog, stream_app.runtime.reload", FAUST),
    ],
)
def test_only_the_adapter_loads_faust_and_scoring_loads_no_kafka_client(module: str, absent: tuple[str, ...]) -> None:
    """In a fresh process, since other tests have loaded everything."""
    code = SHOW.format(module=module, names=", ".join(map(repr, absent)))
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert run.stdout.split() == []
