"""What the index of similar rows costs a gateway: `python -m benchmarks.similar`.

All diamonds are in it. Memory is that of a process of its own, which reads the champion as a gateway does. The pause is
the longest time that an event loop waits for its turn, beyond the millisecond that it sleeps, while a thread reads.
"""

import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
from starlette.datastructures import QueryParams

from inflight.settings import load_settings
from machine_learning_engineering.registry import similar
from model.diamonds import Diamonds
from producers.gateway.catalog import Catalog
from producers.gateway.similar import answer
from tests.support.gateway import put_model

CALLS = 20_000
# As `producers.gateway.process` sets it.
SWITCH_SECONDS = 0.001


def resident_bytes() -> int:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def put_diamonds(registry: Path) -> dict[str, float]:
    """A champion with an index of all diamonds."""
    examples = list(Diamonds.examples(load_settings().data_dir))
    declared = Diamonds.similarity()
    assert declared is not None
    features, labels = [one.features for one in examples], [one.label for one in examples]
    started = time.perf_counter()
    content = similar.encode(declared, features, labels)
    seconds = time.perf_counter() - started
    assert content is not None
    put_model(registry, "diamonds", "value", files={similar.SIMILAR_FILE: content}, features_schema=Diamonds.schema())
    put_model(registry, "plain", "value", features_schema=Diamonds.schema())
    return {"rows": len(examples), "file_mb": len(content) / 1e6, "write_s": seconds}


async def longest_pause(catalog: Catalog) -> tuple[float, float]:
    """Seconds that reading takes in a thread, and the longest pause of the event loop meanwhile."""
    started = time.perf_counter()
    reading = asyncio.create_task(asyncio.to_thread(catalog.refresh))
    longest = 0.0
    while not reading.done():
        before = time.perf_counter()
        await asyncio.sleep(0.001)
        longest = max(longest, time.perf_counter() - before - 0.001)
    return time.perf_counter() - started, longest


def gateway(registry: Path) -> dict[str, float]:
    """Read the champions of a registry, and answer."""
    sys.setswitchinterval(SWITCH_SECONDS)
    catalog = Catalog(registry)
    before = resident_bytes()
    seconds, pause = asyncio.run(longest_pause(catalog))
    found: dict[str, float] = {"memory_mb": (resident_bytes() - before) / 1e6, "total_mb": resident_bytes() / 1e6}
    found |= {"read_s": seconds, "pause_ms": pause * 1e3}
    model = catalog.models.get("diamonds")
    if model is None or model.similar is None:
        return found
    for n in (1, 5, 100):
        query = QueryParams(f"cut=Ideal&color=G&clarity=VS2&carat=0.705&n={n}")
        times = []
        for _ in range(CALLS // n):
            started = time.perf_counter()
            msgspec.json.encode(answer(model, query))
            times.append(time.perf_counter() - started)
        times.sort()
        found[f"answer_{n}_us"] = times[len(times) // 2] * 1e6
        found[f"answer_{n}_p99_us"] = times[len(times) * 99 // 100] * 1e6
    return found


def main() -> None:
    """Print the figures as JSON."""
    if len(sys.argv) > 1:
        print(json.dumps(gateway(Path(sys.argv[1]))))
        return
    with tempfile.TemporaryDirectory() as folder:
        figures: dict[str, Any] = put_diamonds(Path(folder) / "registry")
        for name in ("without", "with"):
            registry = Path(folder) / "registry"
            if name == "without":
                (registry / "diamonds").rename(Path(folder) / "aside")
            child = subprocess.run(
                [sys.executable, "-m", "benchmarks.similar", str(registry)], capture_output=True, text=True, check=True
            )
            figures[name] = json.loads(child.stdout)
            if name == "without":
                (Path(folder) / "aside").rename(registry / "diamonds")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
