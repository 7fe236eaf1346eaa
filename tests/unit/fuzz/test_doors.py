"""Every decoder of the product is in a harness, or on a short list with the reason why not.

A door is a function, a class or a name of a module that decodes bytes or text. Whoever adds one adds it to `DOORS` of a
module in this folder, and to its test.
"""

import ast
import importlib
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent
PACKAGES = ("inflight", "mle_package/machine_learning_engineering", "model", "monitoring", "producers", "stream_app")
HARNESSES = tuple(sorted(path.stem for path in HERE.glob("test_*.py") if path != Path(__file__)))
_K = "mle_package/machine_learning_engineering/"

DECODERS = re.compile(
    r"msgspec\.json\.(decode|Decoder)|Decoder|msgspec\.convert|json\.loads?|csv\.(reader|DictReader)|tomllib\.loads?"
    r"|zipfile\.ZipFile|skops\.io\.(load|loads|get_untrusted_types)|(datetime\.)?(fromisoformat|strptime)"
    r"|(base64\.)?b64decode|pickle\.loads?|joblib\.load|yaml\.\w*load\w*|np\.load|ast\.(literal_eval|parse)|tarfile\.open"
    r"|text_string_to_metric_families|DotEnvSettingsSource|.*\bread_table|.*\bParquetFile|ElementTree\.\w+"
)

OURS = "a file of the installation, which whoever may change it could replace by code"
SELF = "values that the same process made a moment before"
CHILD = "the output of a child process of ours, with its own typed errors"
EXEMPT = {
    "inflight/demo/processes.py:Deployment._events": SELF,
    "inflight/commands/dashboards.py:apply": SELF,
    "inflight/reference/alerts.py:rules": OURS,
    "inflight/reference/documents.py:_parts": OURS,
    "inflight/reference/settings.py:_declared": OURS,
    "inflight/commands/retrain.py:_examples": SELF,
    "inflight/retrainer/child.py:_decode": CHILD,
    "inflight/retrainer/due.py:Retrainer._do": CHILD,
    "inflight/retrainer/training.py:main": "the job of the parent process",
    "inflight/stack/maven.py:resolve_zip.fill": "an archive whose checksum Maven has verified",
    "monitoring/dashboards/fields.py:mapped_fields": OURS,
    "monitoring/elastic/templates.py:put_templates": OURS,
    "monitoring/elastic/templates.py:check_foreign_templates": OURS,
    "monitoring/audit/readers.py:_oldest_day": "a date in the name of an index; anything else is skipped",
    _K + "core/extras.py:install_command": "a file that the installer wrote",
    _K + "core/json_values.py:is_deeper": "JSON that was decoded before",
    _K + "core/lazy.py:lazy_exports": OURS,
    _K + "core/model.py:Model": "an annotation",
    _K + "core/model.py:Model.__init_subclass__": "the decoder of `Model.decode`, which has a harness",
    _K + "datasets.py:WheelDataset.rows": "a file whose digest is pinned",
    _K + "datasets.py:WheelDataset.read": "a file whose digest is pinned",
    _K + "feature_store/example_file.py:ExampleFile._append": "what this store wrote into its own database",
    _K + "feature_store/example_file.py:ExampleFile._line": "what this store wrote into its own database",
    _K + "feature_store/examples.py:build": "a label of a log record, which `replay_spool` and the log have decoded",
    _K + "feature_store/examples.py:_label": SELF,
    _K + "feature_store/offline.py:Table.features": "a column of a file that this store wrote",
    _K + "feature_store/offline.py:_convert": "called by `decode`, which has a harness",
    _K + "feature_store/offline.py:compact": "files that this store wrote",
    _K + "feature_store/offline.py:_scan": "files that this store wrote; a damaged one is named",
    _K + "kafka/broker_check.py:broker_check_options.stats_cb": "the statistics of librdkafka in this process",
    _K + "registry/artifacts.py:sign": "what `read_manifest`, which has a harness, has just read",
    _K + "registry/files.py:_decode_names": "what this registry kept in its own cache",
    _K + "prediction_log/frames.py:records_frame": "JSON of a log record, which the log has decoded",
    _K + "prediction_log/frames.py:_decoded": "JSON of a log record, which the log has decoded",
    _K + "registry/trial.py:main": CHILD,
    _K + "retraining/fresh_rows.py:rows_of_sources": "JSON of a record, which `collect` has decoded",
    _K + "retraining/trigger.py:_RetrainingRun._by_metric": SELF,
    _K + "scoring/columns.py:_text": "a part of JSON that `lines.objects` has decoded, which has a harness",
    _K + "scoring/lines.py:request_of": "a part of JSON that `lines.objects` has decoded, which has a harness",
    _K + "scoring/run.py:_Run._metrics": "values of a part's record, which `journal.read_part` has decoded",
    _K + "testing/fresh_process.py:predict": CHILD,
    _K + "testing/fresh_process.py:main": CHILD,
    _K + "testing/log_store_checks.py:check_set_and_replace_label": "a check for authors of log stores",
    _K + "testing/log_store_checks.py:check_any_text_in_ids": "a check for authors of log stores",
    _K + "testing/log_store_examples.py:plain": "a check for authors of log stores",
    _K + "testing/prediction_checks.py:check_prediction_types": "a check for authors of models",
    _K + "testing/prediction_checks.py:check_save_and_open": "a check for authors of models",
    _K + "training/layers.py:read": "a layer that a training wrote, for an analyst",
    _K + "training/layers.py:rows_of": SELF,
    _K + "training/promotion.py:_stored_rows": "rows of a profile, which `Registry.profile` has decoded",
}


@lru_cache(maxsize=1)
def decoders() -> list[tuple[str, int]]:
    """Each decoder with its line, as ``FILE:SCOPE``: the function, or the name that a module gives it."""
    found: list[tuple[str, int]] = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            file = path.relative_to(ROOT).as_posix()
            found += ((f"{file}:{scope}", line) for scope, line in _of(ast.parse(path.read_text()), ""))
    return found


def _of(node: ast.AST, scope: str) -> Iterator[tuple[str, int]]:
    for child in ast.iter_child_nodes(node):
        inner = scope
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = f"{scope}.{child.name}".lstrip(".")
        elif not scope and isinstance(child, ast.Assign | ast.AnnAssign):
            inner = ast.unparse(child.targets[0] if isinstance(child, ast.Assign) else child.target)
        if isinstance(child, ast.Import | ast.ImportFrom):
            continue
        if isinstance(child, ast.Attribute | ast.Name) and DECODERS.fullmatch(ast.unparse(child)):
            yield scope or "<module>", child.lineno
            continue
        yield from _of(child, inner)


@lru_cache(maxsize=1)
def doors() -> dict[str, str]:
    """Harness by door."""
    found: dict[str, str] = {}
    for name in HARNESSES:
        for node in ast.parse((HERE / f"{name}.py").read_text()).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "DOORS":
                value = eval(compile(ast.Expression(node.value), name, "eval"), {"_K": _K})
                found |= dict.fromkeys(value, name)
    return found


def test_every_decoder_is_in_a_harness_or_has_a_reason() -> None:
    known = doors().keys() | EXEMPT.keys()
    missing = sorted({f"{door} (line {line})" for door, line in decoders() if door not in known})
    assert not missing, "no harness: add each to DOORS of a module in tests/unit/fuzz: " + ", ".join(missing)


def test_reasons_are_of_decoders_that_exist() -> None:
    existing = {door for door, _ in decoders()}
    assert EXEMPT.keys() <= existing, sorted(EXEMPT.keys() - existing)
    assert not EXEMPT.keys() & doors().keys()


@pytest.mark.parametrize("door", sorted(doors()))
def test_doors_exist_and_are_documented(door: str) -> None:
    file, _, scope = door.partition(":")
    module = importlib.import_module(file.removeprefix("mle_package/").removesuffix(".py").replace("/", "."))
    found: object = module
    for part in scope.split("."):
        found = getattr(found, part)
    page = (ROOT / "docs" / "fuzzing.md").read_text()
    assert f"`{doors()[door]}.py`" in page


def test_harnesses_have_a_row_in_the_docs() -> None:
    page = (ROOT / "docs" / "fuzzing.md").read_text()
    missing = [name for name in HARNESSES if f"`{name}.py`" not in page]
    assert not missing
