"""Make the pictures of this folder: a real run, small enough for a laptop, and previews of its dashboards.

    python -m docs.pictures.make                 # a run of six minutes, its pictures, and everything is stopped
    python -m docs.pictures.make --keep          # broker and search node stay up, to look and draw again

It starts Kafka and Elasticsearch on free ports in a home of its own, trains the models, starts one process of each
kind, and plays a day at the shop in a few minutes: diamonds, passengers and reviews, labels that come late, careless
producers, a new version of a model, and then diamonds of which every one is half as heavy again as in training.
"""

import argparse
import contextlib
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

from PIL import Image

from inflight.demo.bad_records import bad_records
from inflight.demo.processes import Process
from inflight.settings import Settings, load_settings
from inflight.stack.stack import start_stack
from inflight.stack.status import with_endpoints
from machine_learning_engineering.core.example import Example
from machine_learning_engineering.evaluation.splits import split
from machine_learning_engineering.kafka.client import create_topics
from machine_learning_engineering.storage.settings import WITHOUT_SHARED
from machine_learning_engineering.training.layers import validate
from machine_learning_engineering.training.sources import collect
from model.catalog import available
from monitoring.exporter.lag import LagReader
from monitoring.runtime.groups import INDEXER
from producers.labels import labels_by_prefix, publish_labels
from producers.replay import replay
from producers.request_builder import Record
from producers.shift import Shift
from producers.sources import Request

PICTURES = Path(__file__).parent
RATES = {"diamonds": 20.0, "titanic": 5.0, "reviews": 8.0}
"""Requests a second."""
PARTS: list[tuple[str, float, float, list[Shift]]] = [
    ("diamonds", 0.0, 0.7, []),
    ("diamonds", 0.7, 1.0, [Shift("carat", 1.5, 0.0)]),
    ("titanic", 0.0, 1.0, []),
    ("reviews", 0.0, 1.0, []),
]
"""Dataset, and from when to when it is replayed, in shares of the run; at last the diamonds are heavier."""
PROMOTION_AT = 0.5
WARM_UP = 15.0
"""Seconds at the beginning that are not drawn: the worker's first answers are slow."""
LABEL_DELAY = 25.0
"""Seconds from the first request to the first label."""


def main() -> None:
    """Run, draw, stop."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seconds", type=float, default=360.0, help="how long requests are published")
    arguments.add_argument("--keep", action="store_true", help="leave broker and search node up, for another look")
    arguments.add_argument("--out", type=Path, default=PICTURES)
    options = arguments.parse_args()
    base = load_settings()
    home = (base.home / "pictures").absolute()
    # A SIGTERM, too, stops everything that was started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with contextlib.ExitStack() as cleanup:
        forget(home)
        stack = start_stack("real", home, fresh=True, keep_running=options.keep)
        if not options.keep:
            cleanup.callback(stack.stop)
        settings = with_endpoints(base.moved_to(home), stack.endpoints)
        environment = stack.endpoints.environment | {"INFLIGHT_HOME": str(home)} | WITHOUT_SHARED
        create_topics(settings)
        since, until = run(settings, environment, options.seconds)
        draw = [sys.executable, "-m", "docs.pictures.preview", "--out", str(options.out), "--since", since.isoformat()]
        draw += ["--until", until.isoformat(), "--scale", "1.25"]
        subprocess.run(draw, env=os.environ | environment, check=False)
        shrink(options.out)
        if options.keep:
            variables = " ".join(f"{name}={value}" for name, value in environment.items())
            print(f"draw again:\n  {variables} {' '.join(draw)}", file=sys.stderr)  # noqa: T201
            print(f"stop it:\n  INFLIGHT_HOME={home} inflight down", file=sys.stderr)  # noqa: T201


def forget(home: Path) -> None:
    """Leave nothing of an earlier run but what takes long: data, and trained models other than titanic's."""
    for path in home.glob("*"):
        if path.name not in ("data", "registry", "stack"):
            shutil.rmtree(path, ignore_errors=True)
    shutil.rmtree(home / "registry" / "titanic", ignore_errors=True)


def shrink(folder: Path) -> None:
    """Few colors are enough for charts, and make files of a fifth of the size."""
    for path in folder.glob("*.png"):
        picture = Image.open(path).convert("RGB")
        # Of the methods this one keeps the colors of thin lines.
        picture.quantize(128, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path, optimize=True)


def inflight(environment: dict[str, str], *arguments: str) -> subprocess.Popen[bytes]:
    """A command of ours, started."""
    print("inflight", *arguments, file=sys.stderr, flush=True)  # noqa: T201
    return subprocess.Popen([sys.executable, "-m", "inflight.cli", *arguments], env={**os.environ, **environment})


def run(settings: Settings, environment: dict[str, str], seconds: float) -> tuple[datetime, datetime]:
    """Everything up to the last document; from when to when it is drawn."""
    for model, count in {"diamonds": "2", "reviews": "2", "titanic": "1"}.items():
        inflight(environment, "train", model, "-n", count, "--missing").wait()
    # Not better than the first version, and so not promoted: that is done by hand while the stream runs.
    inflight(environment, "train", "titanic", "-n", "2").wait()
    kept = {dataset: held_out(settings, dataset) for dataset in RATES}
    with processes(settings, environment), ThreadPoolExecutor(8) as pool:
        began = datetime.now(UTC)
        parts = [
            pool.submit(play, settings, began, dataset, kept[dataset], start * seconds, end * seconds, shift)
            for dataset, start, end, shift in PARTS
        ]
        misfortunes(settings, environment, began, seconds)
        for part in parts:
            part.result()
        settle(settings)
    return began + timedelta(seconds=WARM_UP), began + timedelta(seconds=seconds)


def play(
    settings: Settings, began: datetime, dataset: str, rows: list[Example], start: float, end: float, shift: list[Shift]
) -> None:
    """Publish rows of a dataset, in an order of chance and again when all were sent, and after a while their labels.

    Args:
        rows: what no training fits on.
    """
    rows = random.Random(settings.seed + int(start)).sample(rows, len(rows))
    count, prefix = int((end - start) * RATES[dataset]), f"{dataset}-{start:.0f}"
    some = list(itertools.islice(itertools.cycle(rows), count))
    requests = (Request(dict(one.features), dataset) for one in some)

    def label() -> None:
        wait(began, start + LABEL_DELAY)
        publish_labels(settings, labels_by_prefix(some, dataset, prefix), rate=RATES[dataset])

    wait(began, start)
    labels = threading.Thread(target=label, daemon=True)
    labels.start()
    replay(settings, requests, rate=RATES[dataset], shift=shift, id_prefix=prefix, trace=True)
    labels.join()


def held_out(settings: Settings, dataset: str) -> list[Example]:
    """The rows of a dataset that no training of it fits on.

    A model was told the labels of the others: on those it would look better, and surer of itself, than it is.
    """
    found = collect(available()[dataset], settings, ["dataset"])
    accepted = validate(available()[dataset](), found.records)
    kept = set(split(len(accepted.rows), settings.seed, accepted.groups)[1])
    return [one for number, one in enumerate(available()[dataset].examples(settings.data_dir)) if number in kept]


def wait(began: datetime, seconds: float) -> None:
    """Until so long after the beginning."""
    time.sleep(max(0.0, (began + timedelta(seconds=seconds) - datetime.now(UTC)).total_seconds()))


def misfortunes(settings: Settings, environment: dict[str, str], began: datetime, seconds: float) -> None:
    """Careless producers four times, and in the midst of it a new version of a model, promoted by hand."""
    for number, at in enumerate((0.15, 0.35, PROMOTION_AT, 0.6, 0.85)):
        wait(began, seconds * at)
        if at == PROMOTION_AT:
            inflight(environment, "models", "promote", "titanic:v2", "--reason", "passed the review").wait()
        else:
            some = bad_records(f"careless-{number}")[number :: 1 + number % 2]
            replay(settings, (Record(one.value, one.key) for one in some), rate=4)


@contextlib.contextmanager
def processes(settings: Settings, environment: dict[str, str]) -> Iterator[None]:
    """A worker, an indexer, a drift monitor and a label joiner, ready; stopped at the end."""
    windows = {"INFLIGHT_DRIFT_WINDOW_ROWS": "500", "INFLIGHT_QUALITY_INTERVAL": "10"}
    owns = r"inflight_worker_assigned_partitions [1-9]"
    with contextlib.ExitStack() as cleanup:
        started = []
        for name in ("worker", "indexer", "drift-monitor", "label-joiner"):
            ready_when = owns if name == "worker" else ""
            one = Process(name, name, settings.home / "processes", environment | windows, ready_when)
            cleanup.callback(one.stop)
            one.launch()
            started.append(one)
        for one in started:
            one.wait_ready()
        yield


def settle(settings: Settings, seconds: float = 60.0) -> None:
    """Wait until the indexer has caught up with all of its topics."""
    deadline = time.monotonic() + seconds
    with contextlib.closing(LagReader(settings)) as lag:
        while time.monotonic() < deadline:
            if not any(waiting for (group, _), waiting in lag.read().items() if group == INDEXER):
                return
            time.sleep(0.5)


if __name__ == "__main__":
    main()
