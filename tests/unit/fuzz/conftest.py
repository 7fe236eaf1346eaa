"""The seed of full doses, and long examples."""

from pathlib import Path

import pytest

from tests.support.doses import FULL
from tests.support.fuzzing import SEED


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:
            # An example may be as long as it likes.
            item.add_marker(pytest.mark.filterwarnings("ignore:Generating overly large repr"))


@pytest.fixture(scope="session", autouse=True)
def seed() -> None:
    """Printed at the start and, by pytest, with each failure."""
    if FULL:
        print(f"seed: INFLIGHT_TEST_SEED={SEED}")
