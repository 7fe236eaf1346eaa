"""What the audit takes from the topics."""

import pytest

from inflight.settings import Settings
from monitoring.audit import readers
from tests.support import fuzz_corpus as corpus


@pytest.mark.parametrize(("spare", "readable"), [(0, True), (-1, False)])
def test_what_a_worker_can_read_depends_on_its_limit(
    spare: int, readable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The audit judges requests by the same limit as the workers, whatever it is set to."""
    value = corpus.REQUESTS[0]
    record = corpus.message("prediction-requests", value)
    monkeypatch.setattr(readers, "read_to_end", lambda *_: iter([record]))
    settings = Settings(_env_file=None, max_request_bytes=len(value) + spare)  # type: ignore[call-arg]
    assert [one.readable for one in readers.requests(settings)] == [readable]
