"""The pictures of docs/architecture.md: `python -m docs.pictures.diagrams` writes them.

All text stands in filled shapes, and lines are of a middle grey: so one file is read on a light page and on a dark one.
"""

from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

HERE = Path(__file__).parent
UNIT_X, UNIT_Y, HIGH = 190, 74, 48
FILLS = {
    "outside": "#5f6368",
    "process": "#1a5fb4",
    "topic": "#6a3fb0",
    "store": "#1f6f3c",
    "person": "#9c3d00",
}
LINE = "#80868b"


class Box(NamedTuple):
    """A box: its centre in columns and rows, its lines of text, what it stands for, and its width in columns."""

    x: float
    y: float
    text: str
    kind: str
    width: float = 0.84


class Arrow(NamedTuple):
    """An arrow from box to box; `both` has a head at each end, `text` stands on it."""

    start: str
    end: str
    text: str = ""
    both: bool = False


class Diagram(NamedTuple):
    """A picture."""

    title: str
    boxes: dict[str, Box]
    arrows: list[Arrow]


STREAM = Diagram(
    "From a request to its result, its log and its figures",
    {
        "http": Box(0, 0, "your program\nover HTTP", "outside"),
        "own": Box(0, 2, "your producer\nin any language", "outside"),
        "others": Box(0, 3.5, "existing topics\nof others", "outside"),
        "gateway": Box(1, 0, "gateway", "process"),
        "requests": Box(1.15, 2, "prediction-requests", "topic", 1),
        "worker": Box(2.25, 2, "workers\nmodel, batches", "process"),
        "registry": Box(2.25, 4.6, "registry\nversions, champion", "store", 0.95),
        "results": Box(3.4, 0, "prediction-results", "topic", 1),
        "logs": Box(3.4, 2, "prediction-logs", "topic", 1),
        "dead": Box(3.4, 3.5, "prediction-dead-letters", "topic", 1.05),
        "labels": Box(3.4, 4.6, "prediction-labels", "topic", 1),
        "exporter": Box(4.75, 1, "exporter", "process"),
        "indexer": Box(4.75, 2, "indexer", "process"),
        "drift": Box(4.75, 3, "drift monitor", "process"),
        "archive": Box(4.75, 0, "archive, features", "process"),
        "joiner": Box(4.75, 4.6, "label joiner", "process"),
        "prometheus": Box(5.9, 1, "Prometheus\nalerts, Grafana", "store", 0.95),
        "search": Box(5.9, 2.5, "Elasticsearch\nKibana", "store", 0.95),
        "sql": Box(5.9, 0, "SQL, training data", "store", 0.95),
    },
    [
        Arrow("http", "gateway", both=True),
        Arrow("gateway", "requests"),
        Arrow("results", "gateway"),
        Arrow("own", "requests"),
        Arrow("others", "worker"),
        Arrow("requests", "worker"),
        Arrow("registry", "worker"),
        Arrow("worker", "results"),
        Arrow("worker", "logs"),
        Arrow("worker", "dead"),
        Arrow("logs", "exporter"),
        Arrow("logs", "indexer"),
        Arrow("logs", "drift"),
        Arrow("logs", "archive"),
        Arrow("labels", "joiner"),
        Arrow("exporter", "prometheus"),
        Arrow("indexer", "search"),
        Arrow("drift", "search"),
        Arrow("archive", "sql"),
        Arrow("joiner", "search"),
    ],
)
LOOP = Diagram(
    "The life of a version: trained, compared, tried on live requests, promoted or taken back",
    {
        "data": Box(0, 1, "training data\ndataset, files, the log", "store", 0.98),
        "training": Box(1.35, 1, "training\ncandidates, held-out rows", "process", 1.1),
        "registry": Box(2.8, 1, "registry\nversion, profile, report", "store", 1.05),
        "gate": Box(4.2, 1, "gate\npromotion rule, person", "person", 1.02),
        "rollout": Box(4.2, 2.6, "rollout\nshadow, then canary", "process", 1.02),
        "worker": Box(2.8, 2.6, "workers\nchampion, challenger", "process", 1.05),
        "log": Box(1.35, 2.6, "log and labels\nanswers and outcomes", "topic", 1.1),
        "watch": Box(0, 2.6, "watch\ndrift, quality, schedule", "process", 0.98),
        "alerts": Box(0, 4.1, "alerts, boards", "store", 0.98),
        "verdict": Box(2.8, 4.1, "verdict\npass, fail, waiting", "process", 1.05),
        "back": Box(4.2, 4.1, "rollback\nthe version is barred", "person", 1.02),
    },
    [
        Arrow("data", "training"),
        Arrow("training", "registry"),
        Arrow("registry", "gate"),
        Arrow("gate", "rollout"),
        Arrow("rollout", "worker"),
        Arrow("worker", "log"),
        Arrow("log", "watch"),
        Arrow("watch", "data", "due"),
        Arrow("watch", "alerts"),
        Arrow("log", "verdict"),
        Arrow("verdict", "rollout"),
        Arrow("verdict", "back"),
    ],
)
CODE = Diagram(
    "Imports point downwards; processes never import one another and meet on topics",
    {
        "cli": Box(1.9, 0, "inflight\ncommands, supervisor, demo, adapters", "process", 4.6),
        "producers": Box(0.3, 1.4, "producers\ngateway, replay", "process", 1.4),
        "stream": Box(1.9, 1.4, "stream_app\nworker: Kafka, runtime, Faust", "process", 1.5),
        "monitoring": Box(3.5, 1.4, "monitoring\nindexer, exporter, drift, ...", "process", 1.4),
        "model": Box(1.9, 2.8, "model\none folder for each model", "topic", 1.5),
        "sdk": Box(
            1.9,
            4.2,
            "machine_learning_engineering: the SDK\ninstalls alone: model contract, events, registry, training, drift",
            "store",
            4.6,
        ),
    },
    [
        Arrow("cli", "producers"),
        Arrow("cli", "stream"),
        Arrow("cli", "monitoring"),
        Arrow("stream", "model"),
        Arrow("producers", "sdk"),
        Arrow("model", "sdk"),
        Arrow("monitoring", "sdk"),
    ],
)
DIAGRAMS = {"architecture-stream.svg": STREAM, "architecture-loop.svg": LOOP, "architecture-code.svg": CODE}


def svg(diagram: Diagram) -> str:
    """The picture as SVG."""
    boxes = diagram.boxes.values()
    left = min(box.x - box.width / 2 for box in boxes) * UNIT_X - 10
    right = max(box.x + box.width / 2 for box in boxes) * UNIT_X + 10
    top = min(box.y for box in boxes) * UNIT_Y - HIGH / 2 - 10
    bottom = max(box.y for box in boxes) * UNIT_Y + HIGH / 2 + 10
    head = (
        f'<marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
        f'orient="auto-start-reverse"><path d="M0 0L10 5L0 10z" fill="{LINE}"/></marker>'
    )
    drawn = [*(_arrow(diagram.boxes, arrow) for arrow in diagram.arrows), *map(_box, boxes)]
    size = f'viewBox="{left:.0f} {top:.0f} {right - left:.0f} {bottom - top:.0f}"'
    font = 'font-family="system-ui, sans-serif" font-size="14" text-anchor="middle"'
    title = f"<title>{escape(diagram.title)}</title>"
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font} role="img">', title, f"<defs>{head}</defs>"]
    return "\n".join([*lines, *drawn, "</svg>"]) + "\n"


def _box(box: Box) -> str:
    wide = box.width * UNIT_X
    x, y = box.x * UNIT_X, box.y * UNIT_Y
    texts = box.text.split("\n")
    rows = [
        f'<text x="{x:.1f}" y="{y + 5 + 17 * (number - (len(texts) - 1) / 2):.1f}" fill="#fff"'
        f"{'' if number else BOLD}>{escape(text)}</text>"
        for number, text in enumerate(texts)
    ]
    shape = (
        f'<rect x="{x - wide / 2:.1f}" y="{y - HIGH / 2:.1f}" width="{wide:.1f}" height="{HIGH}" '
        f'rx="{HIGH / 2 if box.kind == "topic" else 6:.0f}" fill="{FILLS[box.kind]}"/>'
    )
    return shape + "".join(rows)


BOLD = ' font-weight="600"'


def _arrow(boxes: dict[str, Box], arrow: Arrow) -> str:
    """From edge to edge, along the line between the centres of what the two boxes share, or of the boxes."""
    start, end = boxes[arrow.start], boxes[arrow.end]
    shared = _shared(start, end)
    a = (shared if shared is not None else start.x * UNIT_X, start.y * UNIT_Y)
    b = (shared if shared is not None else end.x * UNIT_X, end.y * UNIT_Y)
    (x1, y1), (x2, y2) = _edge(start, a, b), _edge(end, b, a)
    ends = ' marker-end="url(#head)"' + (' marker-start="url(#head)"' if arrow.both else "")
    line = f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="{LINE}" stroke-width="1.8" fill="none"{ends}/>'
    if not arrow.text:
        return line
    x, y, wide = (x1 + x2) / 2, (y1 + y2) / 2, 9 * len(arrow.text) + 12
    chip = f'<rect x="{x - wide / 2:.1f}" y="{y - 10:.1f}" width="{wide}" height="20" rx="10" fill="{LINE}"/>'
    return line + chip + f'<text x="{x:.1f}" y="{y + 4:.1f}" fill="#000" font-size="12">{escape(arrow.text)}</text>'


def _shared(one: Box, other: Box) -> float | None:
    """The middle of what two boxes one above the other share: the arrow between them is vertical."""
    if one.y == other.y:
        return None
    low = max(one.x - one.width / 2, other.x - other.width / 2)
    high = min(one.x + one.width / 2, other.x + other.width / 2)
    return (low + high) / 2 * UNIT_X if high - low > 0.3 else None


def _edge(box: Box, inside: tuple[float, float], towards: tuple[float, float]) -> tuple[float, float]:
    """Where the line from a point inside a box leaves it."""
    dx, dy = towards[0] - inside[0], towards[1] - inside[1]
    reach = []
    if dx:
        side = box.x * UNIT_X + (1 if dx > 0 else -1) * box.width * UNIT_X / 2
        reach.append((side - inside[0]) / dx)
    if dy:
        reach.append(HIGH / 2 / abs(dy))
    share = min(reach)
    return inside[0] + dx * share, inside[1] + dy * share


def main() -> None:
    """Write the pictures."""
    for name, diagram in DIAGRAMS.items():
        (HERE / name).write_text(svg(diagram), encoding="utf-8")


if __name__ == "__main__":
    main()
