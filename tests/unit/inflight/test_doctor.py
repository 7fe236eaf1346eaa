"""What `inflight doctor` finds."""

import pytest

from inflight.stack.doctor import examine
from machine_learning_engineering.settings import Settings


@pytest.mark.parametrize(("no_cython", "status"), [(None, "ok"), ("1", "fail")])
def test_a_faust_without_its_compiled_iterator_is_a_failure(
    no_cython: str | None, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In pure Python, Faust counts the messages of an old assignment as processed."""
    if no_cython is not None:
        monkeypatch.setenv("NO_CYTHON", no_cython)

    found = {check.name: check for check in examine(Settings(_env_file=None))}

    assert found["faust's iterator"].status == status
    assert ("NO_CYTHON" in found["faust's iterator"].fix) == (status == "fail")
