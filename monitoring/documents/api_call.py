"""`inference-api-*`: one call of the gateway as one document."""

from datetime import datetime

from msgspec import UNSET, Raw, Struct, UnsetType, field

from machine_learning_engineering.core.timestamps import to_utc
from machine_learning_engineering.events.schemas import ApiCalled
from machine_learning_engineering.observability.trace import trace_ids
from monitoring.documents.common import ECS, MODULE, SERVICE, Id, ModelFields, digest, index_for

FAMILY = "api"


class CallEvent(Struct, frozen=True):
    """ECS `event.*`. `duration` is in nanoseconds; an answer with a status below 400 is a success."""

    outcome: str
    duration: int
    kind: str = "event"
    category: tuple[str, ...] = ("api",)
    type: tuple[str, ...] = ("access",)
    action: str = "api_call"
    module: str = MODULE
    dataset: str = "inflight.api"


class Size(Struct, frozen=True):
    bytes: int


class HttpRequest(Struct, frozen=True):
    method: str
    body: Size


class HttpResponse(Struct, frozen=True):
    status_code: int
    body: Size


class Http(Struct, frozen=True):
    """ECS `http.*`."""

    request: HttpRequest
    response: HttpResponse


class User(Struct, frozen=True):
    """ECS `user.*`: the name of the API key."""

    name: str


class CallFields(Struct, frozen=True):
    """`query` and bodies as JSON text, which is stored and not searchable."""

    call_id: str
    route: str
    seconds: float
    rows: int | UnsetType = UNSET
    problem: str | UnsetType = UNSET
    query: str | UnsetType = UNSET
    request_body: str | UnsetType = UNSET
    response_body: str | UnsetType = UNSET


class InflightFields(Struct, frozen=True):
    """`inflight.*`."""

    api: CallFields
    request_id: str | UnsetType = UNSET
    model: ModelFields | UnsetType = UNSET
    redacted: list[str] | UnsetType = UNSET


class CallDocument(Struct, frozen=True):
    """One document of `inference-api-*`; `@timestamp` is when the call began."""

    timestamp: datetime = field(name="@timestamp")
    event: CallEvent
    http: Http
    inflight: InflightFields
    user: User | UnsetType = UNSET
    trace: Id | UnsetType = UNSET
    span: Id | UnsetType = UNSET
    ecs: Raw = ECS
    service: Raw = SERVICE


def call_document(event: ApiCalled) -> tuple[str, str, CallDocument]:
    """Index, id and document of a call."""
    moment = to_utc(event.started_at)
    trace = trace_ids(event.traceparent)
    document = CallDocument(
        timestamp=moment,
        event=CallEvent("success" if event.status < 400 else "failure", round(event.seconds * 1e9)),
        http=Http(
            HttpRequest(event.method, Size(event.request_bytes)), HttpResponse(event.status, Size(event.response_bytes))
        ),
        inflight=InflightFields(
            api=CallFields(
                call_id=event.call_id,
                route=event.route,
                seconds=event.seconds,
                rows=event.rows,
                problem=event.problem,
                query=_text(event.query),
                request_body=_text(event.request_body),
                response_body=_text(event.response_body),
            ),
            request_id=event.request_id,
            model=UNSET if isinstance(event.model, UnsetType) else ModelFields(event.model, event.model_version),
            redacted=event.redacted,
        ),
        user=UNSET if isinstance(event.caller, UnsetType) else User(event.caller),
        trace=UNSET if trace is None else Id(trace[0]),
        span=UNSET if trace is None else Id(trace[1]),
    )
    return index_for(FAMILY, moment), digest(event.call_id), document


def _text(value: Raw | UnsetType) -> str | UnsetType:
    return UNSET if isinstance(value, UnsetType) else bytes(value).decode(errors="replace")
