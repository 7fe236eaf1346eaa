"""The notebooks run from their source to the end, in a kernel of their own, and draw what they are about."""

from itertools import pairwise
from pathlib import Path

import pytest

from model import catalog
from notebooks.execute import HERE, NAMES, execute
from tests.support.doses import FULL

# So many plots at least: the data, the candidates, the performance, what the model goes by, and answers.
PLOTS = {"diamonds": 8, "reviews": 7, "titanic": 8}


@pytest.fixture(autouse=True)
def _folders_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever Jupyter and IPython read or keep, they have it in the test's folder."""
    for variable in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))
    if not FULL:
        # Each candidate, with one configuration or two.
        monkeypatch.setenv("INFLIGHT_TRAIN_N_MODELS", "3")


def test_every_model_has_its_notebook() -> None:
    """A model without a notebook is found here."""
    folders = {cls.name for cls in catalog.available().values() if cls.__module__.startswith("model.")}
    assert set(NAMES) == folders == set(PLOTS)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_to_its_end_and_draws(name: str) -> None:
    """Every code cell ran, in order and without a word on standard error; each plot has its words right below it."""
    before = sorted(HERE.iterdir())
    found = execute(name)
    code = [cell for cell in found.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output.text for output in outputs if output.get("name") == "stderr"]
    plots = [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    assert len(plots) >= PLOTS[name]
    # An empty figure takes a few hundred bytes.
    assert min(map(len, plots)) > 5_000
    for cell, below in pairwise(found.cells):
        if cell.cell_type == "code" and any("image/png" in output.get("data", {}) for output in cell.outputs):
            assert below.cell_type == "markdown", cell.source
    assert [path for path in sorted(HERE.iterdir()) if path not in before and path.name != "__pycache__"] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_source_holds_no_outputs_and_no_logic_of_models(name: str) -> None:
    """The source is text: no picture, and no estimator is made in it."""
    source = (HERE / f"{name}.py").read_text(encoding="utf-8")
    assert "image/png" not in source
    assert ".fit(" not in source
    assert "run_training(" in source
    assert "inflight replay" in source
