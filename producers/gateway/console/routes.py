"""What the console's page asks: read-only views of the stream and the registry, and the replay of dead letters."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from machine_learning_engineering.dead_letters.reader import Address, parse_address
from machine_learning_engineering.observability.logging import log_event
from machine_learning_engineering.registry.reader import RegistryReader
from producers.gateway.access import Access
from producers.gateway.addresses import Address as Route
from producers.gateway.answers import json_response
from producers.gateway.bodies import Limits, declared_size, decode, read_body
from producers.gateway.calls import call_of
from producers.gateway.catalog import Catalog
from producers.gateway.console import letters, story, versions
from producers.gateway.console.page import Page
from producers.gateway.console.series import Cell
from producers.gateway.console.sources import Logbook
from producers.gateway.console.watch import View, Watching
from producers.gateway.orders import SEPARATOR, row_ids, rows_of
from producers.gateway.problems import Problem, busy
from producers.gateway.settings import GatewaySettings
from producers.gateway.stream import HistoryUnavailable, Stream
from producers.journal import JournalInUse

MAX_LISTED = 500
MAX_DRIFT_WINDOWS = 24
_POINTS = 60
_WINDOWS = (300, 900, 3_600)
_MAX_QUERY = 256
_LIMITS = Limits(64 * 1024, 8, 10.0)
_SHARES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))


class ReplayBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Addresses of dead letters, PARTITION:OFFSET."""

    addresses: list[str]
    again: bool = False


class ConsoleRoutes:
    """The endpoints of the page. Each gets the request and the id of the caller.

    Args:
        settings: of the gateway.
        access: who may call what.
        stream: knows which requests are running.
        catalog: the models in service.
        watch: what happens on the stream.
        logbook: requests that the watch has forgotten.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        access: Access,
        stream: Stream,
        catalog: Catalog,
        watch: Watching,
        logbook: Logbook,
    ) -> None:
        self._settings = settings
        self._access = access
        self._stream = stream
        self._catalog = catalog
        self._watch = watch
        self._logbook = logbook
        self._page = Page()
        self._registry = RegistryReader(settings.registry_dir)

    def addresses(self) -> list[Route]:
        """The page, its files, and what it asks.

        What it asks every few seconds is not in the log of calls; that somebody opens or replays a dead letter is.
        """
        asked = [
            Route("/v1/console/overview", self.overview, "read"),
            Route("/v1/console/models", self.list_models, "read"),
            Route("/v1/console/models/{model}", self.show_model, "read"),
            Route("/v1/console/predictions", self.list_predictions, "read"),
            Route("/v1/console/predictions/{request_id:path}", self.show_story, "read"),
            Route("/v1/console/dead-letters", self.list_letters, "admin"),
        ]
        return [
            Route("/", self._page.home, None),
            Route("/console/{name}", self._page.file, None),
            Route("/v1/console/session", self.session, None),
            *(one._replace(is_logged=False) for one in asked),
            Route("/v1/console/dead-letters/replay", self.replay, "admin", "POST"),
            Route("/v1/console/dead-letters/{address}", self.show_letter, "admin"),
        ]

    async def session(self, request: Request, caller: str) -> Response:
        """`GET /v1/console/session`: what the caller may do."""
        return json_response(self._access.session(request)._asdict())

    async def overview(self, request: Request, caller: str) -> Response:
        """`GET /v1/console/overview?seconds=`: throughput, outcomes, latency, lag and the events of models."""
        seconds = _number(request, "seconds", _WINDOWS[0], _WINDOWS)
        view, now = self._watch.view(), time.time()
        return json_response(
            {
                "now": story.moment(now),
                "gateway": {"ready": not self._stream.problem, "problem": self._stream.problem},
                **_watched(view),
                **await asyncio.to_thread(_measured, view, now, seconds),
                "lag": view.lag.groups,
                "lag_problem": view.lag.problem,
                "events": [{"at": story.moment(one.at), "event": one.event} for one in view.memory.events()[:20]],
            }
        )

    async def list_models(self, request: Request, caller: str) -> Response:
        """`GET /v1/console/models`: all models of the registry, and the champions among them."""
        with _readable():
            found = await asyncio.to_thread(self._registry.models)
        await asyncio.to_thread(self._catalog.refresh)
        champions = {name: one.version for name, one in self._catalog.models.items()}
        return json_response({"models": [{"name": name, "champion": champions.get(name)} for name in found]})

    async def show_model(self, request: Request, caller: str) -> Response:
        """`GET /v1/console/models/{model}`: versions, drift windows and live quality."""
        name, view = request.path_params["model"], self._watch.view()
        try:
            with _readable():
                found = await asyncio.to_thread(versions.of_model, self._registry, name)
        except LookupError:
            raise Problem("unknown-model", "no model of this name is in the registry: run inflight train") from None
        drift = view.memory.drift(name)[-MAX_DRIFT_WINDOWS:]
        return json_response(found | _watched(view) | {"drift": drift, "quality": view.memory.quality(name)})

    async def list_predictions(self, request: Request, caller: str) -> Response:
        """`GET /v1/console/predictions?limit=&model=&outcome=&id=`: the last predictions that match."""
        view = self._watch.view()
        query = {name: _text(request, name) for name in ("model", "outcome", "id")}
        found, matching = await asyncio.to_thread(
            view.memory.predictions,
            _limit(request),
            model=query["model"],
            outcome=query["outcome"],
            contains=query["id"],
        )
        rows = [story.summary(one) for one in found]
        counted = view.memory.counted["predictions"]
        return json_response(_watched(view) | {"predictions": rows, "matching": matching, "counted": counted})

    async def show_story(self, request: Request, caller: str) -> Response:
        """`GET /v1/console/predictions/{request_id}`: all that is known of a request."""
        request_id: str = request.path_params["request_id"]
        if len(request_id) > _MAX_QUERY:
            raise Problem("malformed-request", f"a request id has 1 to {_MAX_QUERY} characters", field="request_id")
        view = self._watch.view()
        rejections = view.memory.letters(request_id=request_id)
        found = await self._story(view, request_id)
        if found is None and rejections:
            found = story.rejected(request_id, rejections)
        if found is None and (entry := self._stream.known(request_id)) is not None:
            tell = story.running if entry.is_running else story.scored
            found = tell(request_id, entry.model)
        if found is None and (first := self._stream.known(f"{request_id}{SEPARATOR}0")) is not None:
            found = story.batch(request_id, first.model, row_ids(request_id, rows_of(first.fingerprint) or 1))
        if found is None:
            message = "nobody knows a request with this id: check the id; the stream and the log may have deleted it"
            raise Problem("unknown-prediction", message, request_id=request_id)
        label = view.memory.label_of(request_id)
        if label is not None:
            found["label"] = story.label_from_stream(label)
        found["dead_letters"] = [story.letter(one) for one in rejections]
        if "admin" not in self._access.session(request).scopes and "features" in found:
            # Whoever reads results need not see what other callers have sent.
            found |= {"features": None, "features_hidden": True}
        return json_response(found)

    async def _story(self, view: View, request_id: str) -> dict[str, Any] | None:
        logged = view.memory.prediction(request_id)
        if logged is not None:
            found = story.of_log(logged.event)
            found["times"]["logged"] = story.moment(logged.logged_at)
            return found | {"source": "stream"}
        entry = self._stream.known(request_id)
        if entry is not None and entry.is_running:
            return None
        try:
            stored = await self._logbook.find(request_id)
        except HistoryUnavailable as error:
            if entry is not None:
                return None
            message = f"the stream does not hold the request any more, and {error}: try again"
            raise busy("history-unavailable", message, seconds=5, request_id=request_id) from None
        if stored is None:
            return None
        found = story.of_log(stored.event) | {"source": stored.source}
        if stored.label is not None:
            found["label"] = story.label(stored.label, stored.label_observed_at, None)
        return found

    async def list_letters(self, request: Request, caller: str) -> Response:
        """`GET /v1/console/dead-letters?limit=&reason=&model=`: the last dead letters that match."""
        view = self._watch.view()
        found = view.memory.letters(reason=_text(request, "reason"), model=_text(request, "model"))
        every = view.memory.letters()
        return json_response(
            _watched(view)
            | {
                "dead_letters": [story.letter(one) for one in found[: _limit(request)]],
                "matching": len(found),
                "reasons": sorted({one.origin.reason for one in every}),
                "models": sorted({one.origin.model for one in every if one.origin.model}),
                "max_replay": letters.MAX_REPLAY,
            }
        )

    async def show_letter(self, request: Request, caller: str) -> Response:
        """`GET /v1/console/dead-letters/{address}`: the bytes of a dead letter."""
        address = _address(request.path_params["address"])
        try:
            letter = await asyncio.to_thread(letters.find, self._settings, address)
        except letters.BrokerAway as error:
            raise busy("stream-unavailable", f"{error}: try again") from None
        if letter is None:
            raise Problem("not-found", "there is no dead letter at this address: retention may have deleted it")
        return json_response(letters.shown(letter))

    async def replay(self, request: Request, caller: str) -> Response:
        """`POST /v1/console/dead-letters/replay`: publish dead letters again, unchanged."""
        call_of(request).is_open = True
        declared_size(request, _LIMITS)
        body = decode(await read_body(request, _LIMITS), ReplayBody, _LIMITS, {"addresses": ["0:17"]})
        if not 0 < len(body.addresses) <= letters.MAX_REPLAY:
            message = f"addresses: send 1 to {letters.MAX_REPLAY}; for more use inflight dlq replay"
            raise Problem("invalid-request", message, field="addresses", example={"addresses": ["0:17"]})
        addresses = list(dict.fromkeys(map(_address, body.addresses)))
        try:
            found = await asyncio.to_thread(letters.replay_letters, self._settings, addresses, again=body.again)
        except JournalInUse:
            message = "another replay of dead letters is running on this machine: wait for its end"
            raise Problem("replay-running", message, headers={"retry-after": "5"}) from None
        except letters.BrokerAway as error:
            raise busy("stream-unavailable", f"{error}: try again; what was published is not published twice") from None
        accepted = sum(one.outcome == "accepted" for one in found)
        log_event("gateway", "dead_letters_replayed", caller=caller, asked=len(found), accepted=accepted)
        return json_response({"accepted": accepted, "results": [one._asdict() for one in found]})


def _watched(view: View) -> dict[str, Any]:
    return {
        "problem": view.problem,
        "complete": view.complete,
        "since": story.moment(view.since),
        "hidden_topics": view.hidden,
    }


def _measured(view: View, now: float, seconds: int) -> dict[str, Any]:
    total, parts = view.memory.totals(now - seconds, now + 5)
    columns = view.memory.columns(now, seconds, _POINTS, view.since)
    known = max(1.0, min(seconds, now - view.since))
    shown = [{"name": name, **_numbers(cell, known)} for name, cell in parts.items()]
    return {"seconds": seconds, "series": columns, "total": _numbers(total, known), "models": shown}


def _numbers(cell: Cell, seconds: float) -> dict[str, float | int | None]:
    """Counts, rate a second, and durations in seconds: means of the queue and the predict call, quantiles of all."""
    count = cell.predictions
    return {
        "completed": cell.completed,
        "failed": cell.failed,
        "dead_letters": cell.dead_letters,
        "rate": count / seconds,
        "queue_seconds": cell.queue_seconds / count if count else None,
        "score_seconds": cell.score_seconds / count if count else None,
        **{name: cell.quantile(share) for name, share in _SHARES},
    }


def _address(text: str) -> Address:
    try:
        if len(text) > 32:
            raise ValueError
        return parse_address(text)
    except ValueError:
        message = "an address is PARTITION:OFFSET, such as 0:17"
        raise Problem("malformed-request", message, field="address") from None


def _text(request: Request, name: str) -> str:
    return request.query_params.get(name, "")[:_MAX_QUERY]


def _limit(request: Request) -> int:
    return min(MAX_LISTED, max(1, _number(request, "limit", 100)))


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except OSError:
        raise Problem("not-ready", "the registry can't be read now: the service log says why") from None


def _number(request: Request, name: str, default: int, allowed: tuple[int, ...] = ()) -> int:
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 8) or (allowed and int(text) not in allowed):
        known = ", ".join(map(str, allowed)) or "a whole number"
        raise Problem("malformed-request", f"{name}: send {known}", field=name)
    return int(text)
