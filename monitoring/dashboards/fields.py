"""The fields of each index pattern, from the templates that the indexer installs."""

from importlib import resources
from typing import Any

import msgspec


class Fields:
    """The mapped fields of an index pattern: types by name, without parent objects."""

    def __init__(self, mappings: list[dict[str, Any]]) -> None:
        self.types: dict[str, str] = {}
        self._open: set[str] = set()
        for mapping in mappings:
            self._add("", mapping.get("properties", {}))

    def _add(self, parent: str, properties: dict[str, Any]) -> None:
        for name, mapping in properties.items():
            path = parent + name
            if mapping.get("dynamic") is True:
                self._open.add(path + ".")
            if "properties" in mapping:
                self._add(path + ".", mapping["properties"])
            elif mapping.get("type") != "object":
                self.types[path] = mapping["type"]

    def has(self, field: str) -> bool:
        """Whether a query can read this field. Any field of a prediction counts: they are mapped dynamically."""
        return (field in self.types and self.types[field] != "flattened") or self._is_below(field, self._open)

    def is_searchable(self, field: str) -> bool:
        """Whether KQL can search this field, which may be a key of a flattened field."""
        flattened = {name + "." for name, kind in self.types.items() if kind == "flattened"}
        return field in self.types or self._is_below(field, self._open | flattened)

    def is_shown(self, field: str) -> bool:
        """Whether Discover can show this as a column; it may be a parent object."""
        below = (*self.types, *self._open)
        return self.is_searchable(field) or any(name.startswith(field + ".") for name in below)

    @staticmethod
    def _is_below(field: str, parents: set[str]) -> bool:
        return any(field.startswith(parent) and field != parent for parent in parents)


def mapped_fields() -> dict[str, Fields]:
    """The fields of all our index patterns."""
    folder = resources.files("monitoring.elastic") / "templates"
    templates = {file.name: msgspec.json.decode(file.read_bytes()) for file in folder.iterdir()}
    found: dict[str, Fields] = {}
    for name, template in templates.items():
        if not name.startswith("index-"):
            continue
        parts = [templates[f"component-{part}.json"]["template"] for part in template["composed_of"]]
        parts.append(template.get("template", {}))
        fields = Fields([part["mappings"] for part in parts if "mappings" in part])
        found |= dict.fromkeys(template["index_patterns"], fields)
    return found
