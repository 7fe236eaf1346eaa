"""Code of the documentation: commands exist with their options, data parses, programs run or name what runs them."""

import ast
import importlib
import importlib.util
import json
import re
import tomllib
from typing import Any

import msgspec
import pytest

from inflight.reference.commands import tree
from machine_learning_engineering.declaration.reading import parse_declaration
from machine_learning_engineering.policies import parse_policies
from monitoring.dashboards.source import parse
from tests.support.doc_blocks import PAGES, ROOT, Block, blocks, commands, name

# Pages whose programs need more than this process, and the test that runs them.
RUN_BY = {
    "docs/gateway.md": "tests/integration/test_gateway_docs.py",
    "docs/wire-format.md": "tests/contract/test_foreign_client.py",
    "docs/your_own_model.md": "tests/integration/test_your_own_model.py",
    "docs/feature_store.md": "tests/integration/test_features_command.py",
    "mle_package/README.md": "mle_package/tests/test_prediction_log_predict.py",
}
# Pages whose programs run here, after these lines, which their text presupposes.
RUN_HERE = {
    "docs/privacy.md": "from machine_learning_engineering import MLEModel",
    "docs/training.md": "from typing import Annotated\nimport msgspec\n"
    "from sklearn.ensemble import HistGradientBoostingRegressor\nfrom sklearn.linear_model import LinearRegression\n"
    "from machine_learning_engineering import Candidate, MLEModel",
}
# Pages of programs that need a trained model, a broker or an engine: the modules and names that they import exist.
IMPORTED_ONLY = {
    "docs/batch-scoring.md",
    "docs/debugging.md",
    "docs/elasticsearch.md",
    "docs/registry.md",
    "docs/retraining.md",
}
ENGINES = {"dask", "ray", "pyspark"}
PROGRAMS = blocks("python")


def _id(block: Block) -> str:
    return f"{block.page}:{block.line}"


@pytest.mark.parametrize("block", PROGRAMS, ids=_id)
def test_a_program_runs_or_names_what_runs_it(block: Block) -> None:
    code = compile(block.text, _id(block), "exec")
    if block.page in RUN_BY:
        runner = (ROOT / RUN_BY[block.page]).read_text()
        assert block.page.rpartition("/")[2] in runner, f"{RUN_BY[block.page]} does not read the page"
        return
    if block.page in RUN_HERE:
        namespace: dict[str, Any] = {"__name__": "docs_example"}
        exec(RUN_HERE[block.page], namespace)
        before = set(namespace)
        exec(code, namespace)
        assert set(namespace) - before
        return
    assert block.page in IMPORTED_ONLY, "name the page in RUN_BY, RUN_HERE or IMPORTED_ONLY"
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] not in ENGINES:
            module = importlib.import_module(node.module)
            assert [one.name for one in node.names if not hasattr(module, one.name)] == []


def test_pages_with_programs_that_are_named_exist() -> None:
    pages = {block.page for block in PROGRAMS}
    assert RUN_BY.keys() | RUN_HERE.keys() | IMPORTED_ONLY <= pages


def problem(words: list[str]) -> str:
    """What is wrong with arguments of `inflight`, by its own parser, without running it; empty if nothing is."""
    command = tree()
    context = command.make_context("inflight", [], resilient_parsing=True)
    while hasattr(command, "commands"):
        if not words or words[0].startswith("-"):
            return ""
        found = command.commands.get(words[0])
        if found is None:
            return f"no command {words[0]}"
        context = found.make_context(words[0], [], parent=context, resilient_parsing=True)
        command, words = found, words[1:]
    if "--help" in words:
        return ""
    # Made without its required arguments; from here on, errors count.
    context.resilient_parsing = False
    try:
        command.make_parser(context).parse_args(list(words))
    except Exception as error:  # The parser's own errors, whose class differs between versions of typer.
        return f"{type(error).__name__}: {error}"
    return ""


def test_every_command_in_the_documentation_exists_with_its_options() -> None:
    found = list(commands("inflight"))
    assert len(found) > 250
    wrong = []
    for where, words in found:
        why = problem(words)
        # Prose may name an option without its value; a block may not.
        if why and (":" in where or problem([*words, "VALUE"])):
            wrong.append(f"{where}: inflight {' '.join(words)}: {why}")
    assert wrong == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("models rollback MODEL", ""),
        ("dlq show 0:17 --raw", ""),
        ("models", ""),
        ("--version", ""),
        ("trian diamonds", "no command trian"),
        ("dlq shwo 0:17", "no command shwo"),
        ("train diamonds --no-such-option", "NoSuchOption: "),
        ("replay diamonds --limit", "BadOptionUsage: "),
    ],
)
def test_a_command_that_does_not_exist_is_found(line: str, expected: str) -> None:
    assert problem(line.split()).startswith(expected)
    assert bool(problem(line.split())) == bool(expected)


def test_every_target_and_module_in_the_documentation_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for where, words in commands("make"):
        assert [one for one in words if re.fullmatch(r"[a-z][a-z-]*", one) and one not in targets] == [], where
    for where, words in commands("python"):
        if words[:1] == ["-m"] and words[1].partition(".")[0] in (
            "benchmarks",
            "docs",
            "inflight",
            "deploy",
            "notebooks",
        ):
            assert importlib.util.find_spec(words[1]), where


@pytest.mark.parametrize("block", blocks("toml"), ids=_id)
def test_a_file_in_toml_is_read_by_its_reader(block: Block) -> None:
    """A declaration, policies of models, or a panel of a board; any other is TOML."""
    found = tomllib.loads(block.text)
    if "features" in found and "model" in found:
        assert parse_declaration(block.text.encode()).features
    elif "models" in found:
        assert parse_policies(block.text.encode()).keys() == found["models"].keys()
    elif "panel" in found:
        head = 'id = "x"\ntitle = "X"\ndescription = "X"\n'
        assert parse(head + block.text, "x.toml").panels
    else:
        assert "project" in found


@pytest.mark.parametrize("block", blocks("json"), ids=_id)
def test_data_in_json_parses(block: Block) -> None:
    """One value, fields of an object, or one value a line."""
    for text in (block.text, f"{{{block.text}}}"):
        try:
            json.loads(text)
            return
        except json.JSONDecodeError:
            continue
    for line in block.text.strip().split("\n"):
        msgspec.json.decode(line)


def test_every_setting_in_the_documentation_exists() -> None:
    from inflight.settings import Settings

    known = {f"INFLIGHT_{one.upper()}" for one in Settings.model_fields}
    others = {"INFLIGHT_ENV_FILE", "INFLIGHT_POLICIES"}
    for path in PAGES:
        for found in re.findall(r"\bINFLIGHT_[A-Z_]+[A-Z]\b(?![*_])", path.read_text()):
            if not found.startswith(("INFLIGHT_TEST_", "INFLIGHT_FUZZ_")) and found not in known | others:
                assert any(one.startswith(f"{found}_") for one in known), f"{name(path)}: {found}"
