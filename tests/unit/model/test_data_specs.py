"""The pages that describe the layers, against the layers."""

import re
from itertools import islice
from pathlib import Path

import pytest

import model as model_package
from inflight.settings import Settings
from machine_learning_engineering.training import layers
from machine_learning_engineering.training.sources import collect
from model.catalog import available

PAGES = Path(model_package.__file__).parent.parent / "docs" / "data_specs"
CLASSES = {name: cls for name, cls in available().items() if (PAGES / f"{name}.md").exists()}
ROW = re.compile(r"\| (\w+) \| ([\w<>: ]+) \| .+ \|")


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    """The names and types of each layer's columns, by model and layer, of files that were written."""
    found = {}

    def described(name: str) -> dict[str, list[tuple[str, str]]]:
        if name not in found:
            folder = tmp_path_factory.mktemp(name)
            model = CLASSES[name]()
            examples = list(islice(CLASSES[name].examples(), 300))
            records = collect(CLASSES[name], Settings(home=folder, _env_file=None), [], examples=examples).records
            accepted = layers.validate(model, records)
            tables = {
                "bronze": layers.bronze_table(records),
                "silver": layers.silver_table(model, accepted, records),
                "gold": layers.gold_table(model, accepted, held_out=[0]),
            }
            found[name] = {}
            for kind, table in tables.items():
                _, read = layers.read(Path(layers.write(folder, kind, model, table).path))
                found[name][kind] = [(field.name, str(field.type)) for field in read.schema]
        return found[name]

    return described


def test_the_pages_of_our_models_are_there():
    assert CLASSES.keys() >= {"diamonds", "reviews", "titanic"}


@pytest.mark.parametrize("kind", ["bronze", "silver", "gold"])
@pytest.mark.parametrize("name", sorted(CLASSES))
def test_a_layer_has_the_columns_that_its_page_describes(name, kind, described):
    page = (PAGES / f"{name}.md").read_text()
    section = page.partition(f"\n## {kind.title()}\n")[2].partition("\n## ")[0]
    columns = [match.groups() for match in map(ROW.fullmatch, section.splitlines()) if match]
    assert columns[0] == ("column", "type")
    assert columns[1:] == described(name)[kind]
