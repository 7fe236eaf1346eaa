"""The page of documents: the mapped fields of each family of indices, from the templates of Elasticsearch."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import monitoring.elastic
from inflight.reference import markdown
from inflight.reference.markdown import code, table

_TEMPLATES = Path(monitoring.elastic.__file__).parent / "templates"
_INTRO = (
    "What `inflight indexer` and `inflight label-joiner` write, and what can be searched for: fields that are not "
    "here are stored and not indexed. [Documents in Elasticsearch](../elasticsearch.md) says what each field "
    "means. `keyword` is for exact values, `flattened` for objects whose leaves are keywords."
)


def page() -> str:
    """The page."""
    return markdown.page("Documents", _INTRO, _parts())


def _parts() -> Iterator[str]:
    for path in sorted(_TEMPLATES.glob("index-*.json")):
        template = json.loads(path.read_text(encoding="utf-8"))
        fields: dict[str, str] = {}
        for name in template["composed_of"]:
            component = json.loads((_TEMPLATES / f"component-{name}.json").read_text(encoding="utf-8"))
            fields.update(_fields(component["template"].get("mappings", {})))
        fields.update(_fields(template.get("template", {}).get("mappings", {})))
        yield f"## {template['index_patterns'][0]}\n\n{template['_meta']['description']}"
        yield table(("field", "type"), [(code(name), kind) for name, kind in sorted(fields.items())])


def _fields(mapping: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, one in mapping.get("properties", {}).items():
        if "type" in one:
            yield prefix + name, one["type"] + (f" ({one['path']})" if one["type"] == "alias" else "")
            inner = one.get("fields", {})
            yield from ((f"{prefix}{name}.{part}", other["type"]) for part, other in inner.items())
        yield from _fields(one, f"{prefix}{name}.")
