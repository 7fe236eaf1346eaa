"""Settings of the gateway, read from ``INFLIGHT_GATEWAY_*``."""

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from machine_learning_engineering.events.topics import MEBIBYTE
from machine_learning_engineering.settings import Port, PositiveInt, PositiveSeconds
from producers.settings import ProducerSettings


class GatewaySettings(ProducerSettings):
    """The gateway's settings, with those that every process shares. Sizes are in bytes, durations in seconds."""

    gateway_host: str = "127.0.0.1"
    """Address to listen on. Without API keys, the gateway listens on a loopback address only."""
    gateway_port: Port = 8_080
    """Port to listen on."""
    gateway_metrics_port: Port = 9_107
    """Port of the gateway's metrics."""
    gateway_keys: Annotated[Path | None, BeforeValidator(lambda value: value or None)] = None
    """File of the API keys, such as one that a cluster mounts; ``gateway-keys.json`` in `home` by default."""
    gateway_allowed_hosts: tuple[str, ...] = ()
    """Values of the header `Host` that are accepted, without the port (JSON). By default, those of the loopback
    interface if the gateway listens there, otherwise any."""
    gateway_cors_origins: tuple[str, ...] = ()
    """Origins whose web pages may call the gateway (JSON), such as ``["https://app.example.com"]``; none by default."""
    gateway_deadline: PositiveSeconds = 5.0
    """A request waits for its prediction for this time, unless `Prefer: wait=SECONDS` says otherwise."""
    gateway_max_deadline: PositiveSeconds = 60.0
    """Maximum of `Prefer: wait=SECONDS`."""
    gateway_send_timeout: PositiveSeconds = 2.0
    """A request that the broker has not acknowledged within this time is answered with 503."""
    gateway_body_timeout: PositiveSeconds = 10.0
    """The headers of a request, and then its body, have to arrive within this time."""
    gateway_max_body_bytes: Annotated[int, Field(gt=0, le=64 * MEBIBYTE)] = 4 * MEBIBYTE
    """Maximum size of a body; each row in it is limited by `max_request_bytes` too."""
    gateway_max_rows: Annotated[int, Field(gt=0, le=10_000)] = 1_000
    """Maximum number of rows in one request."""
    gateway_max_depth: Annotated[int, Field(gt=0, le=500)] = 64
    """Maximum number of levels of nested objects and arrays in a body."""
    gateway_max_in_flight: PositiveInt = 4_000
    """Maximum number of rows that wait for their predictions; a request beyond it is answered with 503."""
    gateway_max_in_flight_per_caller: PositiveInt = 2_000
    """Maximum number of rows that one API key may have waiting; a request beyond it is answered with 429."""
    gateway_max_in_flight_bytes: PositiveInt = 64 * MEBIBYTE
    """Maximum size of the bodies that are read or wait; a request beyond it is answered with 503."""
    gateway_max_connections: PositiveInt = 1_000
    """Maximum number of open connections; further ones are answered with 503 and closed."""
    gateway_upload_window: Annotated[int, Field(gt=0, le=10_000)] = 500
    """Maximum number of lines of an upload that are in progress; as many rows count as in flight while it lasts."""
    gateway_max_streams: PositiveInt = 100
    """Maximum number of open live streams; a further one is answered with 503."""
    gateway_max_streams_per_caller: PositiveInt = 50
    """Maximum number of live streams of one API key; a further one is answered with 429."""
    gateway_stream_backlog: Annotated[int, Field(ge=10, le=1_000_000)] = 10_000
    """A live stream whose client is more events behind goes on with newer ones, and says which are missing."""
    gateway_drain_timeout: PositiveSeconds = 10.0
    """After SIGTERM, requests in progress have this time to end."""
    gateway_recall_time: PositiveSeconds = 3_600.0
    """A gateway that starts reads the topics from so long ago, to know the requests that are running and their results.
    Elasticsearch knows the older ones."""
    gateway_recall_requests: PositiveInt = 100_000
    """Maximum number of requests that a gateway knows without Elasticsearch, some 500 bytes each."""
    gateway_recall_bytes: PositiveInt = 64 * MEBIBYTE
    """Maximum size of the results that a gateway keeps in memory; it reads others from the topic again."""
    gateway_call_log: bool = True
    """Write each call and its answer to the topic `api-calls`."""
    gateway_call_body_bytes: Annotated[int, Field(ge=0, le=3 * MEBIBYTE)] = MEBIBYTE
    """Maximum size of a body in the log of calls; of a larger one only the size is logged. 0 logs no bodies."""
    gateway_call_buffer_bytes: Annotated[int, Field(ge=MEBIBYTE)] = 32 * MEBIBYTE
    """Memory for calls that are not on their topic yet; beyond it, calls are lost and counted."""
    gateway_registry_poll_interval: PositiveSeconds = 1.0
    """Interval at which the registry is polled for new champions, and the file of API keys for changes."""

    @property
    def gateway_keys_file(self) -> Path:
        return self.gateway_keys or self.home / "gateway-keys.json"
