"""schemathesis, which is not ours, reads the OpenAPI document of a running gateway and calls each route.

No response has a status of 5xx or one that the document does not describe, and nothing invalid is taken. The routes are
those of the models, similar rows, uploads, live streams, the Open Inference Protocol and the console.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inflight.settings import Settings
from inflight.stack.process import free_port
from machine_learning_engineering.registry.registry import Registry
from model.catalog import available
from monitoring.audit.readers import run_audit
from tests.support.deployment import Deployment
from tests.support.doses import FULL
from tests.support.waiting import until

EXAMPLES = 200 if FULL else 15
"""Of each route and phase."""
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
)
# By seconds, and by the machine: a deadline that passes is 504, which is no fault of what was sent.
PATIENT = {"gateway_deadline": 55, "gateway_max_in_flight": 100_000, "gateway_max_in_flight_per_caller": 100_000}
# 504 ends a request whose deadline the client set itself. 202 comes before the worker looks at the features.
# A stream does not end: of each one, the events of a second.
CONFIGURATION = """
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", 504]
[checks.negative_data_rejection]
expected-statuses = ["4xx", 202, 504]
[[operations]]
include-path = "/v1/streams/{streams}"
request-timeout = 1
request-retries = 5
[operations.generation]
max-examples = 5
"""
ROOT = Path(__file__).parents[2]


@pytest.fixture
def deployment(settings: Settings, all_models: Settings, search: Any) -> Iterator[Deployment]:
    """With a champion of each model, and with a search node: ids that nobody knows are looked up there."""
    model = Registry(all_models.registry_dir).open("diamonds", model_class=available()["diamonds"])
    with Deployment(settings, all_models, model) as found:
        yield found


def _without_progress(text: str) -> str:
    return text[max(0, text.find("= FAILURES =")) :][:20_000]


@pytest.mark.timeout(1_800)
def test_no_route_breaks_its_document(deployment: Deployment, settings: Settings, tmp_path: Path) -> None:
    """Examples, boundaries and random values, valid and invalid, one route at a time and in sequences of calls."""
    port = free_port()
    deployment.worker()
    deployment.indexer()
    gateway = deployment.gateway(port, **PATIENT)
    deployment.serving(1)
    until(gateway.serves, 180, "the gateway is ready")
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        f"http://127.0.0.1:{port}/openapi.json",
        f"--max-examples={EXAMPLES}",
        f"--checks={','.join(CHECKS)}",
        "--phases=examples,coverage,fuzzing,stateful",
        "--request-timeout=60",
        "--continue-on-failure",
        "--no-color",
        "--seed=1",
        "--suppress-health-check=all",
    ]
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.support.schemathesis_hooks"}
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=1_500, check=False
    )
    assert done.returncode == 0, _without_progress(done.stdout) + done.stderr[-5_000:]
    assert gateway.exit_codes == []
    deployment.settles()
    found = run_audit(settings, index=False)
    assert found.passed, found
    assert found.accepted > EXAMPLES, "the calls have reached the workers"
