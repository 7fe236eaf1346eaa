"""`inflight models`: the versions in the registry, and which one is the champion."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inflight.errors import FAILED, exit_for, print_error
from inflight.rendering import print_json, render_metrics, render_text, render_time

if TYPE_CHECKING:
    from machine_learning_engineering.registry.diff import VersionComparison
    from machine_learning_engineering.registry.manifest import CorruptModel, Manifest
    from machine_learning_engineering.registry.registry import Registry

app = typer.Typer(
    name="models",
    no_args_is_help=True,
    help="The models in the registry: list, show, promote, rollback, compare, export, sign.",
    epilog="Example: [bold]inflight models list[/bold]",
)

_JSON = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
_URI = "diamonds, diamonds@challenger, diamonds:v3 or models:/diamonds/3"
_Version = Annotated[str, typer.Argument(metavar="MODEL", help=f"A version: {_URI}. The champion by default.")]
_Reason = Annotated[str, typer.Option(help="The reason, for the history.")]


@app.command("list", epilog="Example: [bold]inflight models list --json[/bold]")
def list_(json: _JSON = False) -> None:
    """List every version of every model with its aliases and metrics."""
    with _registry() as registry:
        versions, errors = registry.overview()
        roles = _roles(registry, errors)
    for error in errors:
        print_error(error)
    _print_list(registry, versions, roles, json)
    if errors:
        raise typer.Exit(FAILED)


def _roles(registry: "Registry", errors: "list[CorruptModel]") -> dict[tuple[str, str], str]:
    """What rollouts say of versions, such as ``shadow`` or ``barred``. An unreadable record is added to the errors."""
    from machine_learning_engineering.registry.manifest import CorruptModel

    roles: dict[tuple[str, str], str] = {}
    for name in registry.models():
        try:
            rollouts = registry.rollouts(name)
        except CorruptModel as error:
            errors.append(error)
            continue
        roles |= {(name, version): "barred" for version in rollouts.barred}
        if (current := rollouts.current) is not None and current.is_open:
            roles[name, current.challenger] = f"{current.stage} {current.percent} %"
    return roles


def _print_list(
    registry: "Registry",
    found: "list[tuple[Manifest, dict[str, str]]]",
    roles: dict[tuple[str, str], str],
    json: bool,
) -> None:
    if json:
        return print_json([_entry(manifest, aliases, roles) for manifest, aliases in found])
    if not found:
        return typer.echo(f"No model in {registry.place} yet: run inflight train")

    from rich.console import Console
    from rich.table import Table

    table = Table("model", "version", "aliases", "created", "metrics")
    for manifest, aliases in found:
        table.add_row(
            manifest.name,
            manifest.version,
            ", ".join(
                [alias for alias, version in sorted(aliases.items()) if version == manifest.version]
                + [role for role in [roles.get((manifest.name, manifest.version))] if role]
            ),
            render_time(manifest.created_at),
            render_metrics(manifest.metrics),
        )
    return Console().print(table)


@app.command(epilog="Example: [bold]inflight models show diamonds@champion --json[/bold]")
def show(model: _Version, json: _JSON = False) -> None:
    """Show a version: metrics, params, lineage, files, profile, rollout, and the history of the model's aliases."""
    from inflight.adapters.rollout_report import headline

    with _registry() as registry:
        name, version = registry.locate(model)
        manifest = registry.verify(name, version)
        aliases, history, profile = registry.aliases(name), registry.history(name), registry.profile(name, version)
        rollouts = registry.rollouts(name)
    if json:
        schema: dict[str, Any] = {"features_schema": manifest.features_schema, "history": history, "profile": profile}
        schema |= {"rollout": rollouts.current, "barred": rollouts.barred.get(version)}
        return print_json(_entry(manifest, aliases) | schema)
    named = ", ".join(alias for alias, one in sorted(aliases.items()) if one == version) or "no alias"
    lines = [
        ("", f"{name}:{version} ({named}), files verified"),
        ("created", f"{render_time(manifest.created_at)} with scikit-learn {manifest.scikit_learn_version}"),
        ("metrics", render_metrics(manifest.metrics)),
        ("params", ", ".join(f"{key} {value}" for key, value in manifest.params.items())),
        ("training run", manifest.lineage.training_run),
        ("data", f"sha256 {manifest.training_data_sha256}, seed {manifest.seed}"),
        *(("dataset", f"{dataset} sha256 {digest}") for dataset, digest in manifest.lineage.datasets.items()),
        ("parent", manifest.lineage.parent or ""),
        *(("file", f"{file} {kept.size:,} bytes, sha256 {kept.sha256}") for file, kept in manifest.files.items()),
    ]
    if profile is not None:
        fields = [*profile.features, *(f"prediction {field}" for field in profile.predictions)]
        lines.append(("profile", f"{', '.join(fields)}; {len(profile.held_out):,} held-out answers"))
    if (current := rollouts.current) is not None and version in (current.champion, current.challenger):
        lines.append(("rollout", headline(current)))
    if (bar := rollouts.barred.get(version)) is not None:
        lines.append(("barred", f"{render_time(bar.at)} {bar.by}: {bar.reason}"))
    for change in history:
        what = f"{change.alias}: {change.previous or 'none'} -> {change.version or 'none'}"
        why = f" ({'rollback; ' if change.rollback else ''}{change.reason})" if change.reason or change.rollback else ""
        lines.append(("history", f"{render_time(change.at)} {change.by} {what}{why}"))
    for what, line in lines:
        if line:
            # Reasons, parameters and user names come from files that others may write.
            typer.echo(render_text(f"{what:>12}  {line}" if what else line))
    return None


@app.command(epilog='Example: [bold]inflight models promote diamonds:v3 --reason "passed the review"[/bold]')
def promote(
    model: Annotated[
        str,
        typer.Argument(
            metavar="VERSION", help="Such as diamonds:v3 or diamonds@challenger; the challenger by default."
        ),
    ],
    alias: Annotated[str, typer.Option(help="The alias to set. Workers serve the champion.")] = "champion",
    reason: _Reason = "",
    json: _JSON = False,
) -> None:
    """Make a version the champion, after its files were verified and opened."""
    from inflight.adapters.models import require_openable

    with _registry() as registry:
        name, version = registry.locate(model, default="challenger" if alias == "champion" else "champion")
        before = registry.alias(name, alias)
        require_openable(registry, name, version)
        registry.promote(name, version, alias=alias, reason=reason or "by hand")
    _changed(name, alias, before, version, reason or "by hand", json)


@app.command(epilog='Example: [bold]inflight models rollback diamonds --reason "prices are off"[/bold]')
def rollback(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The name of the model.")],
    reason: _Reason = "",
    json: _JSON = False,
) -> None:
    """Make the previous champion the champion again. Repeat it to go back further."""
    with _registry() as registry:
        name, before = registry.locate(model)
        version = registry.rollback(name, reason=reason)
    _changed(name, "champion", before, version, reason or "rolled back", json)


@app.command(epilog="Example: [bold]inflight models compare diamonds@champion diamonds@challenger[/bold]")
def compare(
    one: Annotated[str, typer.Argument(metavar="A", help=f"A version: {_URI}.")],
    other: Annotated[str, typer.Argument(metavar="B", help="The version to compare it with.")],
    json: _JSON = False,
) -> None:
    """Compare two versions: metrics, params, data, requests."""
    from machine_learning_engineering.registry.diff import compare as compare_versions

    with _registry() as registry:
        found = compare_versions(registry.verify(*registry.locate(one)), registry.verify(*registry.locate(other)))
    if json:
        return print_json(found)
    return _print_comparison(found)


@app.command(epilog="Example: [bold]inflight models export diamonds@champion --mlflow sqlite:///mlflow.db[/bold]")
def export(
    model: _Version,
    mlflow: Annotated[str, typer.Option(help="The tracking URI: sqlite:///FILE or the address of a server.")],
    experiment: Annotated[str, typer.Option(help="The experiment of the run; by default the name of the model.")] = "",
    json: _JSON = False,
) -> None:
    """Log a version to MLflow: a run with metrics, params and data digests, its files, and a registered model version.

    Needs the extra `mlflow`: pip install 'inflight-streaming[mlflow]'.
    """
    with _registry() as registry:
        from machine_learning_engineering.registry.mlflow_export import export as export_version

        found = export_version(registry, *registry.locate(model), tracking_uri=mlflow, experiment=experiment)
    if json:
        return print_json(found)
    return typer.echo(
        f"{found.model} {found.version} is run {found.run_id} and {found.mlflow_uri} in {mlflow}"
        + (f", with the aliases {', '.join(found.aliases)}" if found.aliases else "")
    )


@app.command(epilog="Example: [bold]INFLIGHT_REGISTRY_SIGNING_KEY=... inflight models sign[/bold]")
def sign(json: _JSON = False) -> None:
    """Sign every version and all aliases with the first key, after the files were verified.

    Run it once after a key was set or changed, while you trust what is in the registry: it signs whatever is there.
    """
    from inflight.settings import load_settings
    from machine_learning_engineering.registry.resigning import sign_all

    with _registry():
        signed = list(sign_all(load_settings().registry_dir))
    if json:
        return print_json({"signed": signed})
    return typer.echo(f"Signed {', '.join(signed)}." if signed else "There is nothing to sign.")


@contextmanager
def _registry() -> "Iterator[Registry]":
    """The registry of the settings; its errors end the command."""
    from inflight.settings import load_settings
    from machine_learning_engineering.registry.manifest import CorruptModel, IncompatibleModel, RegistryError
    from machine_learning_engineering.registry.registry import Registry

    try:
        yield Registry(load_settings().registry_dir)
    except (RegistryError, OSError, ImportError) as error:
        raise exit_for(error, RegistryError, ImportError, failed=(CorruptModel, IncompatibleModel)) from error


def _entry(
    manifest: "Manifest", aliases: dict[str, str], roles: dict[tuple[str, str], str] | None = None
) -> dict[str, Any]:
    import msgspec

    known = msgspec.to_builtins(manifest)
    del known["features_schema"], known["name"]
    named = sorted(alias for alias, version in aliases.items() if version == manifest.version)
    role = {} if roles is None else {"rollout": roles.get((manifest.name, manifest.version), "")}
    return {"model": manifest.name, "aliases": named, "champion": "champion" in named, **role, **known}


def _changed(name: str, alias: str, before: str | None, after: str, reason: str, json: bool) -> None:
    """Print what changed, and announce a new champion."""
    if alias == "champion" and before != after:
        from inflight.adapters.promotions import announce_champion
        from inflight.settings import load_settings

        announce_champion(load_settings(), name, after, reason=reason, previous=before)
    if json:
        return print_json({"model": name, "alias": alias, "previous": before, "version": after})
    if before == after:
        return typer.echo(f"{name}: {after} is the {alias} already")
    return typer.echo(f"{name}: {alias} {before or 'none'} -> {after}")


def _print_comparison(found: "VersionComparison") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", found.one, found.other, "difference")
    for name, pair in found.metrics.items():
        numbers = ("" if value is None else f"{value:.5g}" for value in (pair.one, pair.other))
        mark = " *" if name == found.primary_metric else ""
        table.add_row(name + mark, *numbers, "" if pair.difference is None else f"{pair.difference:+.3g}")
    for name, values in found.params.items():
        table.add_row(name, *("" if value is None else str(value) for value in values), "")
    Console().print(table)
    typer.echo(f"* decides; better: {found.better or 'neither'}")
    if not found.same_data:
        typer.echo("They were trained on different data or with another seed: their metrics are of different rows.")
    if not found.same_schema:
        typer.echo("They accept different requests.")
