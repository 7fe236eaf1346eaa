"""Announces a new champion to running workers, after a command has promoted it."""

import typer

from inflight.settings import Settings
from inflight.stack.probes import anything_listens

ANNOUNCE_SECONDS = 3.0


def announce_champion(settings: Settings, model: str, version: str, *, reason: str, previous: str | None) -> None:
    """Announce it on the stream. Without a broker the promotion stands, and workers find it at their next poll."""
    from machine_learning_engineering.kafka.promotions import PromotionNotAnnounced, announce_promotion

    servers = settings.kafka_bootstrap_servers
    try:
        # A Kafka client would retry for seconds and report each attempt.
        if not anything_listens(servers):
            raise PromotionNotAnnounced(f"there is no broker at {servers} to announce {model} {version}")
        announce_promotion(settings, model, version, reason=reason, previous=previous, timeout=ANNOUNCE_SECONDS)
    except PromotionNotAnnounced as error:
        poll = f"Running workers poll the registry every {settings.worker_model_poll_interval:g} s."
        typer.secho(f"{error}. {poll}", err=True, dim=True)
