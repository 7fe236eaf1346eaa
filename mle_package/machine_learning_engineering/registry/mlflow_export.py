"""Versions of the registry in MLflow: for teams that keep their runs and models there. Needs the extra `mlflow`.

The registry stays the one that workers open. What is logged: a run with metrics, params, tags and data digests, the
version's files as artifacts (the skops file, the profile, the manifest), and a registered model version with the
aliases of here. MLflow opens none of it, so that a file stays under this registry's rules.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from machine_learning_engineering.registry.manifest import Manifest, RegistryError
from machine_learning_engineering.registry.registry import Registry

if TYPE_CHECKING:
    import mlflow

ARTIFACTS = "model"
_SQLITE = "sqlite:///"
# MLflow refuses longer values.
_PARAM_LENGTH = 6_000
_TAG_LENGTH = 5_000


class Exported(Struct, frozen=True):
    """Where a version is in MLflow; `mlflow_uri` is ``models:/<name>/<MLflow's own number>``."""

    model: str
    version: str
    run_id: str
    mlflow_uri: str
    aliases: list[str]


def export(registry: Registry, name: str, version: str, *, tracking_uri: str, experiment: str = "") -> Exported:
    """Log a version, whose files are verified first. One that is there already is not logged again.

    Args:
        tracking_uri: such as ``sqlite:///mlflow.db`` or ``https://mlflow.example.org``.
        experiment: made if there is none of that name; the model's name by default.

    Raises:
        ImportError: MLflow is not installed.
        ModelNotFound: no such version.
        CorruptModel: a file is not as it was saved.
        RegistryError: MLflow refused, or can't be reached.
    """
    # MLflow reports its use to its makers unless it is told not to.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        import mlflow
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise ImportError('MLflow is missing: pip install "machine-learning-engineering[mlflow]"') from error

    manifest = registry.verify(name, version)
    aliases = sorted(alias for alias, one in registry.aliases(name).items() if one == version)
    try:
        client = mlflow.MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
        logged = _found(client, manifest)
        if logged is None:
            experiment_id = _experiment(client, experiment or name, tracking_uri)
            logged = _logged(client, registry, manifest, experiment_id)
        number, run_id = logged
        for alias in aliases:
            client.set_registered_model_alias(name, alias, number)
    except MlflowException as error:
        raise RegistryError(f"model `{name}` {version} was not logged to MLflow at {tracking_uri}: {error}") from error
    return Exported(name, version, run_id, f"models:/{name}/{number}", aliases)


def _found(client: "mlflow.MlflowClient", manifest: Manifest) -> tuple[str, str] | None:
    """MLflow's number of the version and its run, if it was logged before."""
    digest = manifest.files["model.skops"].sha256
    for one in client.search_model_versions(f"name = '{manifest.name}'"):
        if (one.tags.get("inflight.version"), one.tags.get("inflight.sha256")) == (manifest.version, digest):
            return str(one.version), str(one.run_id)
    return None


def _experiment(client: "mlflow.MlflowClient", name: str, tracking_uri: str) -> str:
    if (found := client.get_experiment_by_name(name)) is not None:
        return str(found.experiment_id)
    if not tracking_uri.startswith(_SQLITE):
        return str(client.create_experiment(name))
    # Beside the database, where MLflow would take the folder that one happens to be in.
    database = Path(tracking_uri.removeprefix(_SQLITE)).absolute()
    return str(client.create_experiment(name, artifact_location=f"{database}-artifacts"))


def _logged(
    client: "mlflow.MlflowClient", registry: Registry, manifest: Manifest, experiment_id: str
) -> tuple[str, str]:
    from mlflow.exceptions import MlflowException

    name, version = manifest.name, manifest.version
    run_id = client.create_run(
        experiment_id,
        start_time=int(manifest.created_at.timestamp() * 1_000),
        run_name=f"{name}-{version}",
        tags=_tags(manifest),
    ).info.run_id
    try:
        for metric, value in manifest.metrics.items():
            client.log_metric(run_id, metric, value)
        for param, value in {"seed": manifest.seed, **manifest.params}.items():
            client.log_param(run_id, param, _text(value)[:_PARAM_LENGTH])
        client.log_artifacts(run_id, str(registry.path / name / version), ARTIFACTS)
        client.set_terminated(run_id, "FINISHED")
    except BaseException:
        client.set_terminated(run_id, "FAILED")
        raise
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"{client.get_run(run_id).info.artifact_uri}/{ARTIFACTS}"
    made = client.create_model_version(name, source, run_id, tags=_tags(manifest))
    return str(made.version), run_id


def _tags(manifest: Manifest) -> dict[str, str]:
    lineage = manifest.lineage
    tags = {
        "inflight.version": manifest.version,
        "inflight.sha256": manifest.files["model.skops"].sha256,
        "inflight.primary_metric": manifest.primary_metric,
        "inflight.training_data_sha256": manifest.training_data_sha256,
        "inflight.training_run": lineage.training_run,
        "inflight.parent": lineage.parent or "",
        "inflight.scikit_learn": manifest.scikit_learn_version,
        **{f"inflight.dataset.{dataset}": digest for dataset, digest in lineage.datasets.items()},
    }
    return {tag: value[:_TAG_LENGTH] for tag, value in tags.items() if value}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
