"""What the tests of the consumer share."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from tests.support.scheduler_bench import DEADLINE, Bench


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Callable[[Bench], Coroutine[Any, Any, None]]], None]:
    """Run a scenario on an event loop of its own."""

    def runner(scenario: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            bench = Bench(tmp_path)
            try:
                async with asyncio.timeout(DEADLINE):
                    await scenario(bench)
            finally:
                bench.consumer.poller.consumer.close()

        asyncio.run(main())

    return runner
