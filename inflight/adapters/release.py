"""Saves an adopted model as a version, after the contract checks, and promotes it."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from inflight.adapters.adoption import Found
from inflight.adapters.promotions import announce_champion
from inflight.settings import Settings
from inflight.stack.probes import anything_listens
from machine_learning_engineering.adoption.release import check_contract, save
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.registry.trial import Trials
from machine_learning_engineering.registry.uri import CHAMPION
from machine_learning_engineering.training.promotion import promote_if_better


class Released(NamedTuple):
    """A saved version, or what the contract checks found; `broken` is then not empty."""

    version: str
    champion: bool
    reason: str
    checks: str
    broken: list[str]


def release(found: Found, settings: Settings, promote: bool | None) -> Released:
    """Check a model, save it, and promote it: always, never, or by the rule of every training if `promote` is None.

    Raises:
        RegistryError: It can't be saved.
        OSError: The same.
    """
    candidate = found.candidate
    assert candidate is not None
    checks = "no sample, so no contract check ran"
    if candidate.rows:
        with _progress() as on_check:
            broken = check_contract(candidate, on_check)
        if broken:
            return Released("", False, "", "", broken)
        checks = f"all contract checks pass on {min(200, len(candidate.rows))} rows"
    registry, name = Registry(settings.registry_dir), found.declaration.model.name
    before = registry.alias(name, CHAMPION)
    version = save(candidate, registry, found.opened, found.sample_sha256)
    if candidate.rows:
        # This process has predicted with it: no worker needs to try it first.
        Trials(registry, settings.trials_dir).pass_(name, version)
    champion, reason = _promoted(found, registry, version, before, promote)
    if champion and (before is not None or anything_listens(settings.kafka_bootstrap_servers)):
        announce_champion(settings, name, version, reason=reason, previous=before)
    return Released(version, champion, reason, checks, [])


def _promoted(
    found: Found, registry: Registry, version: str, before: str | None, promote: bool | None
) -> tuple[bool, str]:
    name, candidate = found.declaration.model.name, found.candidate
    assert candidate is not None
    if promote is False:
        return False, "not promoted, as asked"
    if promote or before is None:
        registry.promote(name, version, reason="adopted")
        return True, "the champion"
    if not candidate.labels:
        return False, f"not promoted: without labels it can't be compared with {before}"
    verdict = promote_if_better(registry, candidate.model, candidate.held_out)
    return verdict.promote, f"{'the champion' if verdict.promote else 'not promoted'}: {verdict.reason}"


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar of checks on standard error, only on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("checking", total=None)
        yield lambda name, done, total: progress.update(task, description=name, completed=done, total=total)
