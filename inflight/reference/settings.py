"""The page of settings: each variable with its type, default, unit and meaning, by the process that reads it."""

import ast
import inspect
import json
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from inflight.reference import markdown
from inflight.reference.markdown import code, prose, table
from inflight.settings import Settings
from machine_learning_engineering.storage.location import Location

# Who reads the settings of a class. A class without a line is shown under its name, and a test asks for the line.
READERS = {
    "PlaceSettings": ("Home, registry and training data", "every process and command"),
    "KernelSettings": ("Kafka, logs and models", "every process and command"),
    "WorkerSettings": ("Worker", "`inflight worker`"),
    "ElasticsearchSettings": (
        "Elasticsearch",
        "`inflight indexer`, `inflight label-joiner`, and each command that reads the log from Elasticsearch",
    ),
    "KibanaSettings": ("Kibana", "`inflight dashboards`"),
    "IndexerSettings": ("Indexer", "`inflight indexer`"),
    "ExporterSettings": ("Exporter", "`inflight exporter`"),
    "DriftMonitorSettings": ("Drift monitor", "`inflight drift-monitor`"),
    "LabelJoinerSettings": ("Label joiner and live quality", "`inflight label-joiner`"),
    "FeatureIngestSettings": ("Features", "`inflight features follow`"),
    "RolloutControllerSettings": ("Rollout controller", "`inflight rollout-controller`"),
    "RetrainerSettings": ("Retrainer", "`inflight retrainer` and `inflight retrain --due`"),
    "ArchiveSettings": ("Archive", "`inflight archive`, and each command that reads the log from the archive"),
    "ProducerSettings": (
        "Producers",
        "`inflight replay`, `inflight labels`, `inflight dlq replay`, `inflight gateway`",
    ),
    "GatewaySettings": ("Gateway", "`inflight gateway`"),
}
_NAMES = {bool: "true or false", int: "integer", float: "number", str: "text", SecretStr: "secret", Path: "path"}
_UNITS = {"timeout": "seconds", "interval": "seconds", "pause": "seconds"}
"""The unit of a name's last word, if that is not the word itself."""
_WORDS = ("bytes", "days", "records", "rows", "seconds")


class Setting(NamedTuple):
    """One variable."""

    variable: str
    kind: str
    default: str
    unit: str
    meaning: str


def settings() -> dict[str, list[Setting]]:
    """Return the settings by the class that declares them, in the order of the classes."""
    found: dict[str, list[Setting]] = {}
    for cls in reversed(Settings.__mro__):
        if issubclass(cls, BaseModel) and (own := list(_declared(cls))):
            found[cls.__name__] = own
    order = list(READERS)
    return dict(sorted(found.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order)))


def _declared(cls: type[BaseModel]) -> Iterator[Setting]:
    if cls.__module__.startswith("pydantic"):
        return
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(tree, ast.ClassDef)
    for node, after in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id in cls.model_fields:
            documented = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            text = str(after.value.value) if documented else ""  # type: ignore[union-attr]
            yield _setting(node.target.id, cls.model_fields[node.target.id], ast.unparse(node.annotation), text)


def _setting(name: str, field: FieldInfo, annotation: str, text: str) -> Setting:
    last = name.rpartition("_")[2]
    unit = "seconds" if "Seconds" in annotation else _UNITS.get(last, last if last in _WORDS else "")
    return Setting(f"INFLIGHT_{name.upper()}", _kind(field.annotation, field.metadata), _default(field), unit, text)


def _kind(annotation: Any, metadata: Iterable[Any]) -> str:
    """What a value may be, with its bounds."""
    if get_origin(annotation) in (Union, UnionType):
        kinds = [one for one in get_args(annotation) if one is not NoneType]
        return "path or URL" if Location in kinds else " or ".join(_kind(one, metadata) for one in kinds)
    if hasattr(annotation, "__metadata__"):
        return _kind(annotation.__origin__, [*_flat(annotation.__metadata__), *metadata])
    if get_origin(annotation) is Literal:
        return ", ".join(map(code, get_args(annotation)))
    bounds = [
        f"{sign} {getattr(one, kind.__name__.lower()):,}"
        for one in metadata
        for kind, sign in ((Gt, ">"), (Ge, ">="), (Lt, "<"), (Le, "<="))
        if isinstance(one, kind)
    ]
    name = {dict: "JSON object", tuple: "JSON array"}.get(get_origin(annotation), _NAMES.get(annotation, "text"))
    return ", ".join([name, *bounds])


def _flat(metadata: Iterable[Any]) -> Iterator[Any]:
    """The bounds of a type; a field in `Annotated` has them in itself."""
    for one in metadata:
        yield from one.metadata if isinstance(one, FieldInfo) else (one,)


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "see right"
    value = field.default
    if value is None:
        return "none"
    if isinstance(value, bool | dict | tuple):
        return code(json.dumps(value))
    if isinstance(value, int | float):
        return code(str(value))
    return code(str(value)) or "empty"


def _parts() -> Iterator[str]:
    for cls, own in settings().items():
        title, readers = READERS.get(cls, (cls, "not said"))
        rows = [(code(one.variable), one.kind, one.default, one.unit, prose(one.meaning)) for one in own]
        yield f"## {title}\n\nRead by {readers}."
        yield table(("variable", "value", "default", "unit", "meaning"), rows)


_INTRO = (
    "Each process reads `INFLIGHT_*` variables, then the file that `INFLIGHT_ENV_FILE` names, otherwise `.env` in "
    "the home folder; never one of the current folder. One file serves all. A wrong value ends the process with a "
    "message that names the variable and does not quote its value. Objects and arrays are JSON. `inflight doctor` "
    "checks the settings of this machine."
)


def page() -> str:
    """The page."""
    return markdown.page("Settings", _INTRO, _parts())
