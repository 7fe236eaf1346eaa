"""Telling running workers of a new champion, after a command has changed it."""

import contextlib

import typer

from inflight.settings import Settings

ANNOUNCE_SECONDS = 3.0


def tell_workers(settings: Settings, model: str, version: str, *, reason: str, previous: str | None) -> None:
    """Announce it on the stream. If there is no broker the promotion stands, and workers find it a little later."""
    from machine_learning_engineering.kafka.promotions import PromotionNotAnnounced, announce_promotion

    servers = settings.kafka_bootstrap_servers
    try:
        if not _listening(servers):
            raise PromotionNotAnnounced(f"there is no broker at {servers} to announce {model} {version}")
        announce_promotion(settings, model, version, reason=reason, previous=previous, timeout=ANNOUNCE_SECONDS)
    except PromotionNotAnnounced as error:
        look = f"Running workers look into the registry every {settings.worker_model_poll_interval:g} s."
        typer.secho(f"{error}. {look}", err=True, dim=True)


def _listening(servers: str) -> bool:
    """Whether any server takes connections: a Kafka client would try for seconds, and complain of each attempt."""
    from inflight.stack.process import is_listening

    for server in servers.split(","):
        host, _, port = server.strip().rpartition(":")
        with contextlib.suppress(ValueError):
            if is_listening(int(port), host.strip("[]")):
                return True
    return False
