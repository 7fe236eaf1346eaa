"""A call of the API as an event, with its features redacted as the prediction log has them."""

import logging
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from msgspec import UNSET, Raw, UnsetType

from machine_learning_engineering.core.json_values import canonical_json
from machine_learning_engineering.events.schemas import ApiCalled
from machine_learning_engineering.observability.rate_limit import RATE_LIMITED
from machine_learning_engineering.observability.redaction import (
    ALL,
    WITHHELD,
    InvalidRules,
    Redactor,
    model_redactor,
    tokens,
)
from machine_learning_engineering.settings import KernelSettings
from producers.gateway.calls import Call
from producers.gateway.catalog import Catalog, ServedModel
from producers.gateway.examples import resolve
from producers.gateway.settings import GatewaySettings

logger = logging.getLogger(__name__)

_MAX_QUERY_BYTES, _MAX_PARAMETERS = 8 * 1024, 100
_MAX_MODEL, _MAX_VERSION, _MAX_ID = 128, 256, 256
_encode = msgspec.json.Encoder().encode


class CallEvents:
    """Turns calls into events. For one thread.

    The rules are those of the settings and those that a version was trained with. A version from before they were
    recorded counts as one whose features are all dropped. Where there are rules, bodies in which features can't be told
    apart are not logged.

    Args:
        settings: rules of the deployment, and the size of bodies.
        catalog: the models in service.
    """

    def __init__(self, settings: GatewaySettings, catalog: Catalog) -> None:
        self._settings = settings
        self._catalog = catalog
        self._token = tokens(settings)
        self._revision = -1
        self._redactors: dict[str, Redactor] = {}
        self._active = False
        self._max_bytes = settings.gateway_call_body_bytes

    def __call__(self, call: Call) -> ApiCalled:
        """The event of a call."""
        self._follow()
        redacted: set[str] = set()
        known = call.model in self._catalog.models
        redactor = self._redactors.get(call.model)
        hidden = self._active and not known
        query = self._query(call, redactor, hidden, redacted)
        # Where there are rules, only of these bodies it is known what they hold.
        clear = not self._active or call.is_open or (known and _is_told_apart(call, redactor))
        request_body = self._request_body(call, redactor, clear, redacted)
        return ApiCalled(
            call_id=call.call_id,
            method=call.method,
            route=call.route,
            status=call.status,
            started_at=call.started_at,
            seconds=call.seconds,
            request_bytes=call.request_bytes,
            response_bytes=call.response_bytes,
            caller=call.caller or UNSET,
            model=_text(call.model, _MAX_MODEL),
            model_version=_text(call.model_version, _MAX_VERSION),
            request_id=_text(call.request_id, _MAX_ID),
            rows=call.lines or len(call.rows) or UNSET,
            problem=call.problem or UNSET,
            query=query,
            request_body=request_body,
            # A problem quotes no value.
            response_body=self._body(call, call.response_body, clear or bool(call.problem), redacted),
            redacted=sorted(redacted) or UNSET,
            traceparent=call.traceparent or UNSET,
        )

    def _follow(self) -> None:
        """Take over what was promoted."""
        if self._revision == self._catalog.revision:
            return
        self._revision = self._catalog.revision
        self._redactors = {}
        for model in self._catalog.models.values():
            redactor = _redactor(self._settings, self._token, model)
            if redactor is not None:
                self._redactors[model.name] = redactor
        self._active = bool(self._redactors) or any(self._settings.log_redact.values())

    @staticmethod
    def _query(call: Call, redactor: Redactor | None, hidden: bool, redacted: set[str]) -> Raw | UnsetType:
        if not 0 < len(call.query) <= _MAX_QUERY_BYTES:
            return UNSET
        try:
            pairs = parse_qsl(call.query.decode("latin-1"), keep_blank_values=True, max_num_fields=_MAX_PARAMETERS)
        except ValueError:
            return UNSET
        if hidden:
            redacted.add(ALL)
            return WITHHELD
        # Of a parameter that is given twice, the last one counts, as it does for a feature.
        query = Raw(_encode(dict(pairs)))
        if redactor is None:
            return query
        redacted.update(redactor.names)
        return redactor(query)

    def _request_body(self, call: Call, redactor: Redactor | None, clear: bool, redacted: set[str]) -> Raw | UnsetType:
        body = call.request_body
        rows = [Raw(line) for line in _lines(body or b"")] if call.shape == "lines" else call.rows
        # A body that is withheld has no rows that are told apart.
        if body is None or not rows or not clear or (redactor is None and call.shape != "tensors"):
            return self._body(call, body, clear, redacted)
        if redactor is not None:
            redacted.update(redactor.names)
            rows = [_redact(redactor, row) for row in rows]
        shapes: Mapping[str, Any] = {"row": rows[0], "features": {"features": rows[0]}, "lines": rows}
        found = Raw(_encode(shapes.get(call.shape, {"rows": rows})))
        # Tensors say the names of features once.
        return found if call.shape != "tensors" or len(memoryview(found)) <= self._max_bytes else UNSET

    @staticmethod
    def _body(call: Call, body: bytes | None, clear: bool, redacted: set[str]) -> Raw | UnsetType:
        """A body as a JSON value; text that is no JSON as a string, and lines of JSON as a list."""
        if body is None:
            return UNSET
        if not clear:
            redacted.add(ALL)
            return UNSET
        if call.shape == "lines" and not call.problem:
            return Raw(_encode([_json(line) for line in _lines(body)]))
        return _json(body)


def _is_told_apart(call: Call, redactor: Redactor | None) -> bool:
    """Whether all features of a model in the bodies of a call are known, or nothing of this model is redacted."""
    return bool(call.rows) or call.shape == "lines" or (redactor is None and not call.request_bytes)


def _lines(body: bytes) -> list[bytes]:
    return [line for line in body.split(b"\n") if line.strip()]


def _json(text: bytes) -> Raw:
    return Raw(text) if canonical_json(text) is not None else Raw(_encode(text.decode(errors="replace")))


def _redact(redactor: Redactor, row: Raw) -> Raw:
    """A row as it is logged. Of a line nobody has looked at the values that are kept."""
    found = redactor(row)
    return found if canonical_json(found) is not None else WITHHELD


def _redactor(settings: KernelSettings, token: Callable[[Any], str] | None, model: ServedModel) -> Redactor | None:
    declared = {ALL: "drop"} if model.redacted_features is None else model.redacted_features
    features = resolve(model.features_schema, model.features_schema).get("properties", {})
    try:
        return model_redactor(settings, token, model.name, declared, list(features))
    except InvalidRules as error:
        logger.warning("the log of calls has no features of %s: %s", model.name, error, extra=RATE_LIMITED)
        return Redactor({}, "drop", str)


def _text(text: str, longest: int) -> str | UnsetType:
    """A part of a path or a header, which may be no UTF-8; unset if it can't be what it stands for."""
    return text.encode(errors="replace").decode() if 0 < len(text) <= longest else UNSET
