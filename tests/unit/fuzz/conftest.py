"""Tells the seed of full doses."""

import pytest

from tests.support.doses import FULL
from tests.support.fuzzing import SEED


@pytest.fixture(scope="session", autouse=True)
def seed() -> None:
    """Printed at the start and, by pytest, with each failure."""
    if FULL:
        print(f"seed: INFLIGHT_TEST_SEED={SEED}")
