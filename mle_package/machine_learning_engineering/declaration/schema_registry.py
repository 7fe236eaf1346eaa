"""A small client of a schema registry: schemas by id, by Confluent's API, which Apicurio and Karapace serve, too."""

import time
from typing import Any, NamedTuple

import msgspec

from machine_learning_engineering.declaration.mapping import UnmappedRecord
from machine_learning_engineering.declaration.reading import InvalidDeclaration

__all__ = ["RegistrySchema", "SchemaRegistry", "SchemaRegistryAway"]

CONNECT_SECONDS, READ_SECONDS = 3.0, 10.0
MAX_SCHEMA_BYTES = 4 * 1024 * 1024
UNKNOWN_SECONDS = 10.0
"""An id that the registry does not have is asked for again after this time."""
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class SchemaRegistryAway(ConnectionError):
    """The registry does not answer as one. It is asked again: no record is to blame."""


class RegistrySchema(NamedTuple):
    """A schema as the registry has it."""

    text: str
    kind: str
    """``AVRO``, ``JSON`` or ``PROTOBUF``."""


class SchemaRegistry:
    """Fetches schemas by id, each once.

    Args:
        url: Base of the API, such as ``http://registry:8081``, or ``http://apicurio:8080/apis/ccompat/v7``.

    Raises:
        InvalidDeclaration: It is no such URL.
    """

    def __init__(self, url: str) -> None:
        import urllib3

        self._url = url.rstrip("/")
        try:
            parsed = urllib3.util.parse_url(self._url)
        except urllib3.exceptions.LocationParseError:
            parsed = urllib3.util.Url()
        if parsed.scheme not in ("http", "https") or not parsed.host or parsed.auth:
            raise InvalidDeclaration("source.registry: must be the URL of a schema registry, without a password")
        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS)
        self._http = urllib3.PoolManager(timeout=timeout, retries=False, maxsize=1)
        self._schemas: dict[int, RegistrySchema] = {}
        self._unknown: dict[int, float] = {}

    def schema(self, number: int) -> RegistrySchema:
        """Return a schema.

        Raises:
            UnmappedRecord: The registry has none with this id.
            SchemaRegistryAway: It does not respond, or not as a registry does.
        """
        found = self._schemas.get(number)
        if found is None:
            if time.monotonic() < self._unknown.get(number, 0.0):
                raise _unknown(number)
            found = self._schemas[number] = self._fetch(number)
        return found

    def _fetch(self, number: int) -> RegistrySchema:
        import urllib3

        try:
            answer = self._http.request("GET", f"{self._url}/schemas/ids/{number}", preload_content=False)
            body = answer.read(MAX_SCHEMA_BYTES + 1)
            answer.release_conn()
        except urllib3.exceptions.HTTPError as error:
            raise SchemaRegistryAway(f"the schema registry does not respond ({type(error).__name__})") from None
        if answer.status == 404:
            # Of a wrong address, too: the registry's own answer has an error code.
            if b"error_code" not in body:
                raise SchemaRegistryAway("what answers for the schema registry is none: check source.registry")
            self._unknown[number] = time.monotonic() + UNKNOWN_SECONDS
            raise _unknown(number)
        try:
            if answer.status != 200 or len(body) > MAX_SCHEMA_BYTES:
                raise ValueError(str(answer.status))
            content = _decode(body)
            if content.get("references"):
                what = f"schema {number} refers to other schemas, which is not supported: register it as a whole"
                raise UnmappedRecord("unknown_schema", what)
            return RegistrySchema(str(content["schema"]), str(content.get("schemaType", "AVRO")))
        except UnmappedRecord:
            raise
        except (ValueError, KeyError, RecursionError):
            raise SchemaRegistryAway(f"the schema registry answered {answer.status}, without a schema") from None


def _unknown(number: int) -> UnmappedRecord:
    return UnmappedRecord("unknown_schema", f"the schema registry has no schema with id {number}")
