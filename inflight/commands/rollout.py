"""`inflight rollout`: start, watch, steer and end the rollout of a version."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from inflight.errors import exit_for, exit_with
from inflight.rendering import print_json

if TYPE_CHECKING:
    from inflight.settings import Settings
    from machine_learning_engineering.registry.registry import Registry
    from machine_learning_engineering.rollout.record import Rollout, Rollouts

app = typer.Typer(
    name="rollout",
    no_args_is_help=True,
    help="Bring a version into production step by step: shadow, canary, promotion, bake.",
    epilog="Example: [bold]inflight rollout start diamonds@challenger[/bold], then "
    "[bold]inflight rollout show --watch[/bold]",
)

MAX_REASON = 1_000
_JSON = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
_Model = Annotated[str, typer.Argument(metavar="MODEL", help="The name of the model.")]
_Reason = Annotated[str, typer.Option(help="The reason, for the record.")]
_NeededReason = Annotated[str, typer.Option(help="The reason, for the record.", prompt="Why")]


@app.command(
    epilog="Examples: [bold]inflight rollout start diamonds[/bold]; "
    '[bold]inflight rollout start diamonds:v3 --shadow-share 0.2 --reason "fresh prices"[/bold]'
)
def start(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="Such as diamonds, diamonds:v3 or diamonds@challenger."),
    ],
    challenger: Annotated[
        str, typer.Option(metavar="VERSION", help="The version to roll out; by default the alias challenger.")
    ] = "",
    shadow_share: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of the requests that the shadow scores; 0 skips the shadow."),
    ] = None,
    bake: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="How long the promoted version is watched.")
    ] = None,
    require_better: Annotated[
        bool | None,
        typer.Option(
            "--require-better/--no-worse", help="Whether the shadow passes only a better version, or one no worse."
        ),
    ] = None,
    reason: _Reason = "",
    json: _JSON = False,
) -> None:
    """Start the rollout of a version in place of the champion, as the policy of the model says.

    The policy is the table [models.MODEL.rollout] of inflight.toml; the options replace single values. The rollout
    controller moves it: inflight run starts one.
    """
    from msgspec.structs import replace

    from inflight.adapters.models import require_openable
    from inflight.adapters.rollouts import policy_of, start_rollout

    options = {"shadow_share": shadow_share, "bake": bake, "require_better": require_better}
    with _registry() as (settings, registry):
        name, version = registry.locate(model, default=challenger or "challenger")
        require_openable(registry, name, version)
        given = {field: value for field, value in options.items() if value is not None}
        policy = replace(policy_of(settings, name), **given)
        why = _bounded(reason or "by hand")
        rollout = start_rollout(settings, registry, name, version, policy=policy, reason=why)
    _print(rollout, json)


@app.command(
    epilog="Examples: [bold]inflight rollout show[/bold]; [bold]inflight rollout show diamonds --watch[/bold]; "
    "[bold]inflight rollout show diamonds --record --json[/bold]"
)
def show(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="A model; by default all with a rollout.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every few seconds, until Ctrl-C.")] = False,
    record: Annotated[
        bool, typer.Option("--record", help="Only the record, without reading the evidence from the stream.")
    ] = False,
    json: _JSON = False,
) -> None:
    """Show stage, verdict with each check, and steps of the open or last rollout, and which versions are barred.

    The verdict is of this moment, by the same evidence and rules as those of the controller.
    """
    from inflight.adapters.rollout_report import Watch

    with _registry() as (settings, registry):
        found = Watch(settings, registry, [] if model is None else [registry.locate(model, default="latest")[0]])
        with found as watching:
            if watch and not json:
                return watching.run()
            reports = watching.look(evidence=not record)
    if json:
        return print_json(reports)
    if not reports:
        return typer.echo("No rollout yet: start one with inflight rollout start MODEL")
    return watching.print(reports)


@app.command(epilog='Example: [bold]inflight rollout pause diamonds --reason "sale until Monday"[/bold]')
def pause(model: _Model, reason: _Reason = "", json: _JSON = False) -> None:
    """Take no step forward until it is resumed. A failing version is still refused or rolled back."""
    from machine_learning_engineering.rollout import machine

    _change(model, lambda found, **who: machine.pause(found, **who), reason, json)


@app.command(epilog="Example: [bold]inflight rollout resume diamonds[/bold]")
def resume(model: _Model, reason: _Reason = "", json: _JSON = False) -> None:
    """Let a paused rollout go on. The time of the pause does not count for its deadline."""
    from machine_learning_engineering.rollout import machine

    _change(model, lambda found, **who: machine.resume(found, **who), reason, json)


@app.command(epilog='Example: [bold]inflight rollout promote diamonds --reason "looks good to me"[/bold]')
def promote(model: _Model, reason: _NeededReason, json: _JSON = False) -> None:
    """Promote the challenger now, without waiting for a verdict; it is then watched. In the bake, end the bake."""
    from machine_learning_engineering.rollout import machine

    _change(model, lambda found, **who: machine.promote(found, **who), reason, json)


@app.command(epilog='Example: [bold]inflight rollout abort diamonds --reason "wrong data"[/bold]')
def abort(model: _Model, reason: _NeededReason, json: _JSON = False) -> None:
    """End the rollout: the version before answers everything again. The challenger is not barred."""
    from machine_learning_engineering.rollout import machine

    _change(model, lambda found, **who: machine.abort(found, **who), reason, json)


@app.command(epilog='Example: [bold]inflight rollout unbar diamonds v3 --reason "the data was wrong"[/bold]')
def unbar(
    model: _Model,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Such as v3.")],
    reason: _NeededReason,
    json: _JSON = False,
) -> None:
    """Allow a version that was refused or rolled back to be promoted and rolled out again."""
    from machine_learning_engineering.rollout import machine

    _change(model, lambda found, **who: machine.unbar(found, version, **who), reason, json)


def _change(model: str, command: "Callable[..., Rollouts]", reason: str, json: bool) -> None:
    from datetime import UTC, datetime

    from inflight.adapters.rollouts import change
    from machine_learning_engineering.registry.aliases import current_user

    why = _bounded(reason)
    with _registry() as (settings, registry):
        name = registry.locate(model, default="latest")[0]

        def edit(rollouts: "Rollouts") -> "Rollouts":
            return command(rollouts, model=name, now=datetime.now(UTC), by=current_user(), reason=why)

        rollout = change(settings, registry, name, edit)
    _print(rollout, json)


def _bounded(reason: str) -> str:
    if len(reason) > MAX_REASON:
        raise exit_with(f"--reason has {len(reason):,} characters: use at most {MAX_REASON:,}")
    return reason


def _print(rollout: "Rollout", json: bool) -> None:
    from inflight.adapters.rollout_report import headline

    if json:
        print_json(rollout)
    else:
        typer.echo(headline(rollout))


@contextmanager
def _registry() -> "Iterator[tuple[Settings, Registry]]":
    """The settings and their registry; errors of both end the command."""
    from inflight.settings import load_settings
    from machine_learning_engineering.policies import InvalidPolicies
    from machine_learning_engineering.registry.manifest import CorruptModel, IncompatibleModel, RegistryError
    from machine_learning_engineering.registry.registry import Registry
    from machine_learning_engineering.rollout.machine import RolloutRefused

    settings = load_settings()
    try:
        yield settings, Registry(settings.registry_dir)
    except (RegistryError, RolloutRefused, InvalidPolicies, OSError, ImportError) as error:
        failed = (CorruptModel, IncompatibleModel, RolloutRefused)
        raise exit_for(error, RegistryError, InvalidPolicies, ImportError, failed=failed) from error
