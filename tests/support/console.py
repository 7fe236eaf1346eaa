"""A console without Kafka for tests in a browser: a gateway over real HTTP, whose stream and memory the test fills."""

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Raw

from machine_learning_engineering.dead_letters.letter import DeadLetterOrigin
from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.schemas import (
    DriftMeasured,
    Error,
    FieldDrift,
    LiveMetric,
    ModelPromoted,
    PredictionCompleted,
    PredictionLogged,
    QualityMeasured,
)
from machine_learning_engineering.events.topics import LABELS, LOGS, MEASUREMENTS, MODEL_EVENTS
from machine_learning_engineering.registry.manifest import Lineage
from model.catalog import available
from producers.gateway.access import Access
from producers.gateway.app import create_app
from producers.gateway.budget import Budget
from producers.gateway.catalog import Catalog
from producers.gateway.console.memory import Letter, Memory
from producers.gateway.console.reader import BACK_SECONDS, note
from producers.gateway.console.routes import ConsoleRoutes
from producers.gateway.console.sources import GroupLag, Logbook, NoLogbook
from producers.gateway.console.watch import LagReading, View
from producers.gateway.keys import KeyFile
from producers.gateway.metrics import GatewayMetrics
from producers.gateway.predictor import Predictor
from producers.gateway.routes import Routes
from producers.gateway.server import listen, new_server
from producers.gateway.settings import GatewaySettings
from producers.gateway.stream import NewRequest, NoHistory
from tests.support.gateway import MemoryStream, Topics, put_model

PREDICTIONS: dict[str, Any] = {
    "diamonds": {"price": 541.5},
    "titanic": {"survived": False, "probability": 0.1428},
    "reviews": {
        "score": 0.872,
        "label": "positive",
        "probabilities": {"negative": 0.04, "neutral": 0.12, "positive": 0.84},
        "sentence_scores": [0.91, 0.88, 0.74],
    },
}
METRICS: dict[str, dict[str, tuple[float, float, float]]] = {
    "diamonds": {"mae": (281.9, 261.4, 253.6), "r2": (0.9779, 0.9808, 0.9822), "mape": (0.0718, 0.0671, 0.0652)},
    "titanic": {
        "accuracy": (0.8156, 0.8268, 0.8379),
        "roc_auc": (0.8633, 0.8774, 0.8811),
        "log_loss": (0.4333, 0.4107, 0.4021),
    },
    "reviews": {"f1_macro": (0.6927, 0.7285, 0.7412), "accuracy": (0.7612, 0.7945, 0.8034)},
}
TOPICS = {
    "inflight-worker": ("prediction-requests",),
    "inflight-indexer": ("prediction-logs", "prediction-dead-letters", "model-measurements", "model-events"),
    "inflight-label-joiner": ("prediction-labels",),
    "inflight-drift-monitor": ("prediction-logs",),
}
VIEWS = {
    "overview": ("Overview", "tbody tr"),
    "models/diamonds": ("Models", ".heat tbody td"),
    "predictions": ("Predictions", "tbody tr"),
    "predictions/diamonds-00001": ("diamonds-00001", ".facts"),
    "dead-letters": ("Dead letters", "tbody tr"),
    "try/diamonds": ("Try it", ".field"),
}
"""Each view with its title, and an element that is there once it is full."""
EMPTY = "main .empty, main .note"
"""What a view shows while there is nothing to show."""
REASONS = [
    ("invalid_json", "the record is not JSON: unexpected character at byte 17; send a JSON object", "decode"),
    ("missing_field", "field `features` is missing: see docs/wire-format.md", "decode"),
    ("unknown_field", "there is no field `modell`: did you mean `model`?", "decode"),
    ("index_rejected", "Elasticsearch refused the document: the field `price` is no number", "index"),
]


class FilledWatch:
    """A `Watching` whose memory and state the test sets."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.problem = ""
        self.complete = True
        self.lag = LagReading([], "")

    def view(self) -> View:
        return View(self.memory, self.problem, self.complete, time.time() - BACK_SECONDS, [], self.lag)


class _Scoring(Topics):
    """Topics with a worker that answers, and logs what it has answered; while `working` is false it does neither."""

    def __init__(self, memory: Memory) -> None:
        super().__init__()
        self._memory = memory
        self.working = True

    def append(self, request: NewRequest) -> None:
        super().append(request)
        if self.working:
            self.work(request)

    def work(self, request: NewRequest) -> None:
        now = datetime.now(UTC)
        event = events.decode_request(request.value)
        prediction = Raw(msgspec.json.encode(PREDICTIONS[event.model]))
        self.answer(
            request,
            events.encode(PredictionCompleted(request.request_id, event.model, "v3", prediction, now, now)),
        )
        logged = log(event.request_id, event.model, now, features=msgspec.json.decode(event.features))
        note(self._memory, LOGS, events.encode(logged), time.time())


class Console(NamedTuple):
    """A running console. `url` has no slash at its end."""

    url: str
    watch: FilledWatch
    topics: _Scoring
    stream: MemoryStream
    home: Path

    def add_key(self, *scopes: Any, name: str = "me") -> str:
        return KeyFile(self.home / "gateway-keys.json").add(name, scopes)[1]


@contextlib.contextmanager
def console(home: Path, *, models: bool = True, logbook: Logbook | None = None) -> Iterator[Console]:
    """A gateway on a free port, in a thread of its own."""
    if models:
        put_models(home / "registry")
    settings = GatewaySettings(_env_file=None, home=home)  # type: ignore[call-arg]
    started: list[Console] = []
    ready, done = threading.Event(), threading.Event()

    async def serve() -> None:
        keys, catalog, watch = KeyFile(settings.gateway_keys_file), Catalog(settings.registry_dir), FilledWatch()
        keys.refresh()
        catalog.refresh()
        topics = _Scoring(watch.memory)
        stream = MemoryStream(topics)
        routes = Routes(settings, stream, Predictor(stream, NoHistory(), 1_000), catalog, Budget(100, 100, 1 << 20))
        access = Access(settings, keys)
        own = ConsoleRoutes(settings, access, stream, catalog, watch, logbook or NoLogbook())
        app = create_app(routes, access, GatewayMetrics(), (), own.addresses())
        server = new_server(app, connections=100, header_seconds=10.0, drain_seconds=1.0)
        with listen("127.0.0.1", 0) as socket:
            url = f"http://127.0.0.1:{socket.getsockname()[1]}"
            started.append(Console(url, watch, topics, stream, home))
            serving = asyncio.create_task(server.serve(sockets=[socket]))
            ready.set()
            while not done.is_set():
                await asyncio.sleep(0.05)
                keys.refresh()
            server.should_exit = True
            await serving

    thread = threading.Thread(target=asyncio.run, args=(serve(),), name="console", daemon=True)
    thread.start()
    try:
        assert ready.wait(30)
        yield started[0]
    finally:
        done.set()
        thread.join(30)


def put_models(registry: Path) -> None:
    """Three versions of each model, as far as a gateway reads them."""
    for name, model in available().items():
        for number in range(3):
            put_model(
                registry,
                name,
                model.prediction_name,
                features_schema=msgspec.json.schema(model.Features),
                prediction_schema=msgspec.json.schema(model.Prediction),
                metrics={metric: values[number] for metric, values in METRICS[name].items()},
                primary_metric=next(iter(METRICS[name])),
                created_at=datetime(2026, 11, 21 + number, 9, 30, tzinfo=UTC),
                lineage=Lineage(parent=f"v{number}" if number else None),
            )


def log(
    request_id: str,
    model: str,
    at: datetime,
    *,
    failed: str = "",
    seconds: tuple[float, float, float] = (0.0021, 0.0034, 0.0071),
    features: Any = None,
) -> PredictionLogged:
    """A prediction that ended at a time."""
    queue, score, total = seconds
    accepted = at - timedelta(seconds=total)
    error = Error("invalid_features", "feature `carat` must be a number greater than 0 and at most 50")
    return PredictionLogged(
        request_id=request_id,
        model=model,
        outcome="failed" if failed else "completed",
        features=Raw(msgspec.json.encode(features or {"carat": 0.23, "cut": "Ideal"})),
        requested_at=accepted - timedelta(milliseconds=2),
        accepted_at=accepted,
        completed_at=at,
        queue_seconds=queue,
        score_seconds=score,
        total_seconds=total,
        batch_size=12,
        partition=1,
        offset=4_711,
        model_version="v3",
        prediction=UNSET if failed else Raw(msgspec.json.encode(PREDICTIONS[model])),
        error=error if failed else UNSET,
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )


def fill(watch: FilledWatch, count: int = 10_000, seconds: float = 900.0) -> None:
    """An afternoon in small: predictions of three models, labels, drift, quality, dead letters, promotions and lag."""
    chance, now = random.Random(7), time.time()
    names = list(PREDICTIONS)
    # The first ones come last: the console forgets the oldest.
    for number in reversed(range(count)):
        # Busier in the midst, as days are.
        at = now - seconds * (1 - chance.triangular(0.0, 1.0, 0.6)) if number % 3 else now - seconds * chance.random()
        name = "diamonds" if number == 1 else chance.choices(names, [6, 2, 3])[0]
        queue, score = chance.lognormvariate(-6.2, 0.5), chance.lognormvariate(-5.6, 0.4)
        event = log(
            f"{name}-{number:05d}",
            name,
            datetime.fromtimestamp(at, UTC),
            failed="yes" if number != 1 and chance.random() < 0.013 else "",
            seconds=(queue, score, queue + score + 0.002),
        )
        note(watch.memory, LOGS, events.encode(event), at)
    label = b'{"request_id":"diamonds-00001","model":"diamonds","label":552,"observed_at":"2026-11-30T10:00:00Z"}'
    note(watch.memory, LABELS, label, now)
    for number in range(24):
        fill_letter(watch, number, now - 40 * number)
    for number in range(18):
        fill_drift(watch, number, now - 50 * (18 - number))
    fill_quality(watch)
    promoted = ModelPromoted("diamonds", "v3", datetime.now(UTC), "better mae: 253.6 after 261.4", "v2")
    note(watch.memory, MODEL_EVENTS, events.encode(promoted), now - 400)
    watch.lag = LagReading(
        [
            GroupLag(
                group,
                topic,
                17 if group == "inflight-worker" else 0,
                0.042 if group == "inflight-worker" else None,
                group != "inflight-label-joiner",
            )
            for group, topics in TOPICS.items()
            for topic in topics
        ],
        "",
    )


def fill_letter(watch: FilledWatch, number: int, at: float) -> None:
    """A dead letter."""
    reason, message, stage = REASONS[number % len(REASONS)]
    model = None if reason == "invalid_json" else "diamonds"
    request_id = None if reason == "invalid_json" else f"careless-{number}"
    origin = DeadLetterOrigin(
        reason, message, stage, "prediction-requests", number % 4, 1_000 + number, model, request_id
    )
    watch.memory.letter(Letter(0, number, at, origin, 180 + 7 * number))


def fill_drift(watch: FilledWatch, number: int, at: float) -> None:
    """A window of diamonds, of which the weight drifts at last."""
    chance = random.Random(number)
    fields = []
    for name in ("carat", "x", "y", "z", "depth", "table", "cut", "color", "clarity"):
        heavy = name in ("carat", "x", "y", "z") and number > 11
        psi = chance.uniform(0.12, 0.6) if heavy else chance.uniform(0.002, 0.045)
        found = FieldDrift(
            f"features.{name}", "feature", "distribution", psi, 1e-9, 1e-8 if heavy else 0.6, heavy, 0, 0, 0, 0
        )
        fields.append(found)
    fields.append(
        FieldDrift(
            "predictions.price",
            "prediction",
            "distribution",
            0.31 if number > 12 else 0.02,
            0.1,
            0.4,
            number > 12,
            0,
            0,
            0,
            0,
        )
    )
    end = datetime.fromtimestamp(at, UTC)
    window = DriftMeasured(
        "diamonds",
        "v3",
        f"diamonds/v3/{number:04d}",
        end - timedelta(seconds=50),
        end,
        "count",
        1_000,
        0.01,
        0.1,
        fields,
    )
    note(watch.memory, MEASUREMENTS, events.encode(window), at)


def fill_quality(watch: FilledWatch) -> None:
    """Live quality of diamonds."""
    now = datetime.now(UTC)
    metrics = [LiveMetric("mae", 271.2, 259.8, 283.1, 253.6), LiveMetric("r2", 0.9787, 0.975, 0.982, 0.9822)]
    measured = QualityMeasured("diamonds", "v3", now, now - timedelta(hours=1), now, 1_840, 0.95, metrics)
    note(watch.memory, MEASUREMENTS, events.encode(measured), time.time())
