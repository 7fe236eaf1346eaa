"""`inflight models`: what the registry holds, and which version is the champion."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from machine_learning_engineering.registry.diff import VersionComparison
    from machine_learning_engineering.registry.manifest import Manifest
    from machine_learning_engineering.registry.registry import Registry

models = typer.Typer(no_args_is_help=True, help="The models in the registry: list, show, promote, rollback, compare.")

_JSON = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
_URI = "diamonds, diamonds@challenger, diamonds:v3 or models:/diamonds/3"
_Version = Annotated[str, typer.Argument(metavar="MODEL", help=f"A version: {_URI}. The champion if none is named.")]
_Reason = Annotated[str, typer.Option(help="Why, for the history.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file to `app`."""
    app.add_typer(models, name="models")


@models.command("list", epilog="Example: inflight models list --json")
def list_(json: _JSON = False) -> None:
    """List every version of every model with its aliases and metrics."""
    with _registry() as registry:
        found, damaged = _readable(registry)
    for error in damaged:
        typer.secho(error, err=True, fg="red")
    _print_list(registry, found, json)
    if damaged:
        raise typer.Exit(1)


def _readable(registry: "Registry") -> "tuple[list[tuple[Manifest, dict[str, str]]], list[str]]":
    """The versions with the aliases of their models, and what is wrong with those that can't be read."""
    from machine_learning_engineering.registry.manifest import CorruptModel

    found: list[tuple[Manifest, dict[str, str]]] = []
    damaged = []
    for name in registry.models():
        aliases: dict[str, str] = {}
        try:
            aliases = registry.aliases(name)
        except CorruptModel as error:
            damaged.append(str(error))
        for version in registry.versions(name):
            try:
                found.append((registry.manifest(name, version), aliases))
            except CorruptModel as error:
                damaged.append(str(error))
    return found, damaged


def _print_list(registry: "Registry", found: "list[tuple[Manifest, dict[str, str]]]", json: bool) -> None:
    if json:
        return _print_json([_entry(manifest, aliases) for manifest, aliases in found])
    if not found:
        return typer.echo(f"No model in {registry.path} yet: run inflight train")

    from rich.console import Console
    from rich.table import Table

    table = Table("model", "version", "aliases", "created", "metrics")
    for manifest, aliases in found:
        table.add_row(
            manifest.name,
            manifest.version,
            ", ".join(alias for alias, version in sorted(aliases.items()) if version == manifest.version),
            f"{manifest.created_at:%Y-%m-%d %H:%M}",
            _metrics(manifest.metrics),
        )
    return Console().print(table)


@models.command(epilog="Example: inflight models show diamonds@champion --json")
def show(model: _Version, json: _JSON = False) -> None:
    """Show a version: metrics, params, lineage, files, reference profile, and the history of the model's aliases."""
    with _registry() as registry:
        name, version = registry.locate(model)
        manifest = registry.verify(name, version)
        aliases, history, profile = registry.aliases(name), registry.history(name), registry.profile(name, version)
    if json:
        schema = {"features_schema": manifest.features_schema, "history": history, "profile": profile}
        return _print_json(_entry(manifest, aliases) | schema)
    named = ", ".join(alias for alias, one in sorted(aliases.items()) if one == version) or "no alias"
    lines = [
        ("", f"{name}:{version} ({named}), files verified"),
        ("created", f"{manifest.created_at:%Y-%m-%d %H:%M:%S} UTC with scikit-learn {manifest.scikit_learn_version}"),
        ("metrics", _metrics(manifest.metrics)),
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
    for change in history:
        what = f"{change.alias}: {change.previous or 'none'} -> {change.version or 'none'}"
        why = f" ({'rollback; ' if change.rollback else ''}{change.reason})" if change.reason or change.rollback else ""
        lines.append(("history", f"{change.at:%Y-%m-%d %H:%M:%S} {change.by} {what}{why}"))
    for what, line in lines:
        if line:
            typer.echo(f"{what:>12}  {line}" if what else line)
    return None


@models.command(epilog='Example: inflight models promote diamonds:v3 --reason "passed the review"')
def promote(
    model: Annotated[str, typer.Argument(metavar="VERSION", help="Such as diamonds:v3 or diamonds@challenger.")],
    alias: Annotated[str, typer.Option(help="The alias to set; workers serve the champion.")] = "champion",
    reason: _Reason = "",
    json: _JSON = False,
) -> None:
    """Make a version the champion, once its files are known to be those that were saved and it can be opened."""
    with _registry() as registry:
        name, version = registry.locate(model, default="challenger" if alias == "champion" else "champion")
        before = _alias(registry, name, alias)
        _openable(registry, name, version)
        registry.promote(name, version, alias=alias, reason=reason or "by hand")
    _changed(name, alias, before, version, reason or "by hand", json)


@models.command(epilog='Example: inflight models rollback diamonds --reason "prices are off"')
def rollback(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The name of the model.")],
    reason: _Reason = "",
    json: _JSON = False,
) -> None:
    """Make the champion before this one the champion again. Doing it twice goes back two champions."""
    with _registry() as registry:
        name, before = registry.locate(model)
        version = registry.rollback(name, reason=reason)
    _changed(name, "champion", before, version, reason or "rolled back", json)


@models.command(epilog="Example: inflight models compare diamonds@champion diamonds@challenger")
def compare(
    one: Annotated[str, typer.Argument(metavar="A", help=f"A version: {_URI}.")],
    other: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    json: _JSON = False,
) -> None:
    """Compare two versions: metrics, params, data, requests."""
    from machine_learning_engineering.registry.diff import compare as compare_versions

    with _registry() as registry:
        found = compare_versions(registry.verify(*registry.locate(one)), registry.verify(*registry.locate(other)))
    if json:
        return _print_json(found)
    return _print_comparison(found)


@models.command(epilog="Example: inflight models export diamonds@champion --mlflow sqlite:///mlflow.db")
def export(
    model: _Version,
    mlflow: Annotated[str, typer.Option(help="The tracking URI: sqlite:///FILE or the address of a server.")],
    experiment: Annotated[
        str, typer.Option(help="The experiment that the run goes to; the model's name if empty.")
    ] = "",
    json: _JSON = False,
) -> None:
    """Log a version to MLflow: a run with metrics, params and data digests, its files, and a registered model version.

    Needs the extra `mlflow`: pip install "machine-learning-engineering[mlflow]".
    """
    with _registry() as registry:
        from machine_learning_engineering.registry.mlflow_export import export as export_version

        found = export_version(registry, *registry.locate(model), tracking_uri=mlflow, experiment=experiment)
    if json:
        return _print_json(found)
    return typer.echo(
        f"{found.model} {found.version} is run {found.run_id} and {found.mlflow_uri} in {mlflow}"
        + (f", with the aliases {', '.join(found.aliases)}" if found.aliases else "")
    )


@contextmanager
def _registry() -> "Iterator[Registry]":
    """The registry of the settings; its errors end the command with their message."""
    from inflight.settings import load_settings
    from machine_learning_engineering.registry.manifest import RegistryError
    from machine_learning_engineering.registry.registry import Registry

    try:
        yield Registry(load_settings().registry_dir)
    except (RegistryError, OSError, ImportError) as error:
        typer.secho(str(error), err=True, fg="red")
        raise typer.Exit(1) from error


def _alias(registry: "Registry", name: str, alias: str) -> str | None:
    """What an alias points to; None if there is none, or if the aliases are damaged: promoting makes them anew."""
    from machine_learning_engineering.registry.manifest import CorruptModel

    try:
        return registry.aliases(name).get(alias)
    except CorruptModel:
        return None


def _openable(registry: "Registry", name: str, version: str) -> None:
    """Refuse what a worker could not open: another schema, another scikit-learn, types that are not trusted."""
    from model.catalog import available

    # A model whose code is not installed here has its files verified only.
    if (model_class := available().get(name)) is not None:
        registry.open(name, version, model_class=model_class)


def _entry(manifest: "Manifest", aliases: dict[str, str]) -> dict[str, Any]:
    import msgspec

    known = msgspec.to_builtins(manifest)
    del known["features_schema"], known["name"]
    named = sorted(alias for alias, version in aliases.items() if version == manifest.version)
    return {"model": manifest.name, "aliases": named, "champion": "champion" in named, **known}


def _changed(name: str, alias: str, before: str | None, after: str, reason: str, json: bool) -> None:
    """Say what a command did, and tell workers of a new champion."""
    if alias == "champion" and before != after:
        from inflight.adapters.promotions import tell_workers
        from inflight.settings import load_settings

        tell_workers(load_settings(), name, after, reason=reason, previous=before)
    if json:
        return _print_json({"model": name, "alias": alias, "previous": before, "version": after})
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
        typer.echo("They were made of other data or another seed: their metrics are of different rows.")
    if not found.same_schema:
        typer.echo("They take different requests.")


def _print_json(value: Any) -> None:
    import msgspec

    typer.echo(msgspec.json.encode(value).decode())


def _metrics(metrics: dict[str, float]) -> str:
    return ", ".join(f"{metric} {value:.4g}" for metric, value in metrics.items())
