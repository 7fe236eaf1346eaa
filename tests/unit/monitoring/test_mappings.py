"""The templates say what the Structs and the documentation say, family by family."""

import json
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import pytest

from monitoring.documents.api_call import CallDocument
from monitoring.documents.common import ECS, FAMILIES, SERVICE
from monitoring.documents.dead_letter import DeadLetterDocument
from monitoring.documents.drift import DriftDocument
from monitoring.documents.log import Document
from monitoring.documents.model_event import ModelEventDocument
from monitoring.documents.quality import QualityDocument
from monitoring.documents.shadow import ShadowDocument

DOCUMENTS: dict[str, type[msgspec.Struct]] = {
    "logs": Document,
    "api": CallDocument,
    "shadows": ShadowDocument,
    "drift": DriftDocument,
    "quality": QualityDocument,
    "dead-letters": DeadLetterDocument,
    "model-events": ModelEventDocument,
}
TEMPLATES: dict[str, dict[str, Any]] = {
    file.name.removesuffix(".json"): json.loads(file.read_text())
    for file in (resources.files("monitoring.elastic") / "templates").iterdir()
    if file.name.endswith(".json")
}


def declared(kind: type, path: str = "") -> Iterator[str]:
    """The dotted names of the fields that a Struct declares."""
    for field in msgspec.structs.fields(kind):
        name = f"{path}{field.encode_name}"
        inner = [part for part in getattr(field.type, "__args__", (field.type,)) if isinstance(part, type)]
        structs = [part for part in inner if issubclass(part, msgspec.Struct)]
        constant = {"ecs": ECS, "service": SERVICE}.get(name)
        if constant is not None:
            yield from (f"{name}.{key}" for key in json.loads(bytes(constant)))
        elif structs:
            yield from declared(structs[0], name + ".")
        else:
            yield name


def _properties(properties: dict[str, Any], path: str = "") -> Iterator[str]:
    for name, mapping in properties.items():
        if "properties" in mapping:
            yield from _properties(mapping["properties"], f"{path}{name}.")
        else:
            yield path + name


def mapped(family: str) -> set[str]:
    """The dotted names of the fields that the templates of a family map."""
    parts = [TEMPLATES[f"component-{name}"] for name in TEMPLATES[f"index-inference-{family}"]["composed_of"]]
    return {name for part in parts for name in _properties(part["template"].get("mappings", {}).get("properties", {}))}


def documented(family: str) -> set[str]:
    """The fields in the table of a family's section."""
    page = (Path(__file__).parents[3] / "docs/elasticsearch.md").read_text()
    (section,) = re.findall(rf"^## `inference-{family}-\*`.*?(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE)
    return {name.removesuffix(".*") for row in rows for name in re.findall(r"`([^`]+)`", row)}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_field_is_mapped_and_nothing_else(family: str) -> None:
    """The templates and the Structs say the same."""
    assert set(declared(DOCUMENTS[family])) == mapped(family)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_field_is_documented_and_nothing_else(family: str) -> None:
    """A reader of docs/elasticsearch.md finds all that can be searched for, and searches for nothing in vain."""
    assert documented(family) == mapped(family)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_index_template_matches_its_family_only(family: str) -> None:
    """And outranks the built-in templates."""
    template = TEMPLATES[f"index-inference-{family}"]
    assert template["index_patterns"] == [f"inference-{family}-*"]
    assert template["priority"] == 200
    assert not [
        other for other in FAMILIES if other != family and f"inference-{other}-".startswith(f"inference-{family}-")
    ]


def test_every_part_is_used_and_every_family_has_its_template() -> None:
    """Nothing is shipped that no index is made of."""
    used = {
        f"component-{name}" for family in FAMILIES for name in TEMPLATES[f"index-inference-{family}"]["composed_of"]
    }
    assert used | {f"index-inference-{name}" for name in (*FAMILIES, "pending-labels")} == set(TEMPLATES)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_not_mapped_is_kept_and_not_refused(family: str) -> None:
    """A field that a later version adds must not make today's index refuse documents."""
    parts = [TEMPLATES[f"component-{name}"] for name in TEMPLATES[f"index-inference-{family}"]["composed_of"]]
    assert False in [part["template"].get("mappings", {}).get("dynamic") for part in parts]
