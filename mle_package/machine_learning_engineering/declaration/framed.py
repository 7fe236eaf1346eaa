"""Values that a schema registry's serializers have framed: a zero, the id of a schema, and Avro or JSON."""

import io
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from machine_learning_engineering.core.extras import install_command
from machine_learning_engineering.declaration.mapping import UnmappedRecord
from machine_learning_engineering.declaration.paths import Path, parse_path
from machine_learning_engineering.declaration.reading import InvalidDeclaration
from machine_learning_engineering.declaration.schema import Declaration, SourceDeclaration
from machine_learning_engineering.declaration.schema_registry import SchemaRegistry

__all__ = ["AvroDecoder", "Decode", "decoder_of", "unframed"]

logger = logging.getLogger(__name__)

Decode = Callable[[bytes], bytes]
"""From the value of a record to JSON. Raises `UnmappedRecord`, or a `SchemaRegistryAway` to try again."""

# Decimals are numbers; text would have to be declared as such.
_encode = msgspec.json.Encoder(decimal_format="number").encode
_decode_schema = msgspec.json.Decoder().decode
_FRAME_BYTES = 5
_TYPES: dict[str, frozenset[str]] = {
    "float": frozenset({"int", "long", "float", "double", "bytes", "fixed"}),
    "int": frozenset({"int", "long", "float", "double", "bytes", "fixed"}),
    "bool": frozenset({"boolean"}),
    "text": frozenset({"string", "enum", "bytes", "fixed", "int", "long"}),
}
"""Types of Avro whose JSON a type of features may be; logical types make numbers to texts, and bytes to numbers."""


def decoder_of(declaration: Declaration) -> Decode | None:
    """Return the decoder of a source; None if its values are JSON as they are.

    Raises:
        InvalidDeclaration: The format can't be read here.
    """
    source = declaration.source or SourceDeclaration("")
    if source.format == "json":
        return None
    if source.format == "json-schema":
        # JSON needs no schema to be read.
        return lambda value: unframed(value)[1]
    if source.format == "protobuf":
        raise InvalidDeclaration("source.format: protobuf is not read yet: json, avro or json-schema")
    if not source.registry:
        raise InvalidDeclaration("source.registry: missing; avro is read with the schemas of a registry")
    return AvroDecoder(SchemaRegistry(source.registry), declaration)


def unframed(value: bytes) -> tuple[int, bytes]:
    """Return the id of the schema, and what is behind the frame.

    Raises:
        UnmappedRecord: There is no frame.
    """
    if len(value) < _FRAME_BYTES or value[0] != 0:
        what = "the value is not framed by a schema registry: it has to begin with a zero and the id of a schema"
        raise UnmappedRecord("not_framed", what)
    return int.from_bytes(value[1:_FRAME_BYTES], "big"), value[_FRAME_BYTES:]


class AvroDecoder:
    """Decodes Avro to JSON. Each new schema is compared with the features of the declaration.

    Raises:
        InvalidDeclaration: fastavro is not installed.
    """

    def __init__(self, registry: SchemaRegistry, declaration: Declaration) -> None:
        try:
            import fastavro
        except ModuleNotFoundError:
            raise InvalidDeclaration(f"source.format: avro needs fastavro: {install_command('avro')}") from None
        self._parse, self._read = fastavro.parse_schema, fastavro.schemaless_reader
        self._registry = registry
        self._declaration = declaration
        self._parsed: dict[int, Any] = {}

    def __call__(self, value: bytes) -> bytes:
        """Return the JSON of a value.

        Raises:
            UnmappedRecord: It is not framed, its schema is unknown or none of Avro, or the bytes do not fit it.
            SchemaRegistryAway: The schema can't be had now.
        """
        number, content = unframed(value)
        schema = self._parsed.get(number)
        if schema is None:
            schema = self._parsed[number] = self._schema(number)
        stream = io.BytesIO(content)
        try:
            found = self._read(stream, schema)
            if stream.tell() != len(content):
                raise ValueError("bytes are left over")
            return _encode(found)
        except Exception as error:
            # Its reader raises whatever the bytes lead it to.
            what = f"the value is not Avro of schema {number} ({type(error).__name__})"
            raise UnmappedRecord("not_avro", what) from None

    def _schema(self, number: int) -> Any:
        found = self._registry.schema(number)
        if found.kind != "AVRO":
            raise UnmappedRecord("unknown_schema", f"schema {number} is {found.kind}, not AVRO")
        try:
            schema = _decode_schema(found.text)
            parsed = self._parse(schema)
        except Exception as error:
            what = f"schema {number} can't be read ({type(error).__name__})"
            raise UnmappedRecord("unknown_schema", what) from None
        source = self._declaration.source
        for problem in differences(self._declaration, schema):
            logger.warning("%s: schema %s: %s", source.topic if source else "", number, problem)
        return parsed


def differences(declaration: Declaration, schema: Any) -> list[str]:
    """What the features of a declaration do not find in a schema of Avro: requests with it will fail."""
    problems = []
    for name, feature in declaration.features.items():
        if feature.constant is not msgspec.UNSET:
            continue
        path = feature.from_ or name
        found = _types(schema, parse_path(path, name), {})
        if not found and feature.missing == "refuse" and feature.default is msgspec.UNSET:
            problems.append(f"it has no field `{path}`, and feature `{name}` needs one")
        elif found and not found & (_TYPES[feature.type] | {"map", "null"}):
            problems.append(f"field `{path}` is {', '.join(sorted(found))}, and feature `{name}` is {feature.type}")
    return problems


def _types(schema: Any, path: Path, named: dict[str, Any]) -> set[str]:
    """The types of Avro that the value of a path may have; none if there is no such field."""
    found: set[str] = set()
    for one in _alternatives(schema, named):
        kind = one.get("type")
        if not path:
            found.add(str(kind))
        elif kind == "map":
            found |= _types(one.get("values"), path[1:], named)
        elif kind == "record":
            for field in one.get("fields", ()):
                if field.get("name") == path[0]:
                    found |= _types(field.get("type"), path[1:], named)
    return found


def _alternatives(schema: Any, named: dict[str, Any]) -> Iterable[Mapping[str, Any]]:
    if isinstance(schema, list):
        for one in schema:
            yield from _alternatives(one, named)
    elif isinstance(schema, dict):
        if isinstance(schema.get("type"), dict | list):
            yield from _alternatives(schema["type"], named)
            return
        if "name" in schema:
            named[schema["name"]] = schema
        yield schema
    elif schema in named:
        yield named[schema]
    elif schema != "null":
        yield {"type": schema}
