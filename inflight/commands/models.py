"""`inflight train` and `inflight models`: make models and look at what the registry holds."""

from typing import Annotated

import typer

_JSON = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]

models = typer.Typer(no_args_is_help=True, help="The models in the registry.")


def register(app: typer.Typer) -> None:
    """Add the commands of this file to `app`."""
    app.command(epilog="Example: inflight train diamonds titanic")(train)
    app.add_typer(models, name="models")


def train(
    names: Annotated[list[str] | None, typer.Argument(metavar="MODEL", help="Which to train; all if left out.")] = None,
    json: _JSON = False,
) -> None:
    """Train models on their datasets and keep them in the registry.

    A version that is better than the champion on held-out rows becomes the champion.
    """
    import msgspec
    from rich.console import Console

    from machine_learning_engineering.datasets import DatasetUnavailable
    from machine_learning_engineering.features import InvalidFeatures
    from machine_learning_engineering.registry import RegistryError
    from machine_learning_engineering.settings import load_settings
    from machine_learning_engineering.training import train as train_model
    from model import available

    classes = available()
    if unknown := [name for name in names or () if name not in classes]:
        raise typer.BadParameter(f"no model is named {', '.join(unknown)}: there are {', '.join(sorted(classes))}")
    settings = load_settings()
    runs = []
    console = Console(stderr=True)
    for name in names or sorted(classes):
        with console.status(f"{name}: starting") as status:
            try:
                run = train_model(classes[name], settings, report=lambda step: status.update(step))
            except (DatasetUnavailable, RegistryError, InvalidFeatures, OSError) as error:
                console.print(f"[red]{name} was not trained:[/red] {error}", highlight=False, soft_wrap=True)
                raise typer.Exit(1) from error
        runs.append(run)
        if not json:
            mark = "champion" if run.promoted else "not promoted"
            typer.echo(
                f"{run.model} {run.version}: {_metrics(run.metrics)} ({run.seconds:.1f} s; {mark}: {run.reason})"
            )
    if json:
        typer.echo(msgspec.json.encode(runs).decode())


@models.command("list", epilog="Example: inflight models list --json")
def list_(json: _JSON = False) -> None:
    """List every version of every model with its metrics."""
    import msgspec
    from rich.console import Console
    from rich.table import Table

    from machine_learning_engineering.registry import Registry, RegistryError
    from machine_learning_engineering.settings import load_settings

    registry = Registry(load_settings().registry_dir)
    try:
        champions = registry.champions()
        manifests = [registry.manifest(name, v) for name in registry.models() for v in registry.versions(name)]
    except RegistryError as error:
        typer.secho(str(error), err=True, fg="red")
        raise typer.Exit(1) from error
    if json:
        fields = ("created_at", "metrics", "training_data_sha256", "seed", "scikit_learn_version")
        entries = [
            {
                "model": manifest.name,
                "version": manifest.version,
                "champion": champions.get(manifest.name) == manifest.version,
                **{field: getattr(manifest, field) for field in fields},
            }
            for manifest in manifests
        ]
        typer.echo(msgspec.json.encode(entries).decode())
        return
    if not manifests:
        typer.echo(f"No model in {registry.path} yet: run inflight train")
        return
    table = Table("model", "version", "champion", "created", "metrics")
    for manifest in manifests:
        table.add_row(
            manifest.name,
            manifest.version,
            "yes" if champions.get(manifest.name) == manifest.version else "",
            f"{manifest.created_at:%Y-%m-%d %H:%M}",
            _metrics(manifest.metrics),
        )
    Console().print(table)


def _metrics(metrics: dict[str, float]) -> str:
    return ", ".join(f"{metric} {value:.4g}" for metric, value in metrics.items())
