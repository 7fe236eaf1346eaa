"""Export of versions to MLflow, for teams that keep their runs and models there. Needs the extra `mlflow`.

An export logs a run with metrics, parameters, tags and data digests, the version's files as artifacts (skops file,
profile, manifest), and a registered model version with the same aliases. Workers keep reading this registry: MLflow
does not open the files, so they stay subject to the allow-list of types.
"""

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from machine_learning_engineering.core.extras import require
from machine_learning_engineering.registry import artifacts
from machine_learning_engineering.registry.manifest import Manifest, RegistryError
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.registry.skops_file import MODEL_FILE

if TYPE_CHECKING:
    import mlflow

ARTIFACTS = "model"
_SQLITE = "sqlite:///"
# Limits of MLflow, in characters.
_MAX_PARAM_LENGTH = 6_000
_MAX_TAG_LENGTH = 5_000


class ExportedVersion(Struct, frozen=True):
    """A version in MLflow. `mlflow_uri` is ``models:/<name>/<MLflow's own version number>``."""

    model: str
    version: str
    run_id: str
    mlflow_uri: str
    aliases: list[str]


def export(registry: Registry, name: str, version: str, *, tracking_uri: str, experiment: str = "") -> ExportedVersion:
    """Log a version to MLflow after verifying its files. A version that is already there is not logged again.

    Args:
        registry: The registry to export from.
        name: The model's name.
        version: The version.
        tracking_uri: Such as ``sqlite:///mlflow.db`` or ``https://mlflow.example.org``.
        experiment: Created if missing; the model's name by default.

    Raises:
        ImportError: MLflow is not installed.
        ModelNotFound: No such version exists.
        CorruptModel: A file of the version differs from what was saved.
        RegistryError: MLflow is unreachable or rejected a call.
    """
    # MLflow sends telemetry by default.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    mlflow, errors = require("mlflow", "mlflow"), require("mlflow.exceptions", "mlflow")

    manifest = registry.verify(name, version)
    aliases = sorted(alias for alias, one in registry.aliases(name).items() if one == version)
    try:
        client = mlflow.MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
        logged = _find_logged(client, manifest)
        if logged is None:
            experiment_id = _experiment_id(client, experiment or name, tracking_uri)
            logged = _log_version(client, registry, manifest, experiment_id)
        number, run_id = logged
        for alias in aliases:
            client.set_registered_model_alias(name, alias, number)
    except errors.MlflowException as error:
        raise RegistryError(f"model `{name}` {version} was not logged to MLflow at {tracking_uri}: {error}") from error
    return ExportedVersion(name, version, run_id, f"models:/{name}/{number}", aliases)


def _find_logged(client: "mlflow.MlflowClient", manifest: Manifest) -> tuple[str, str] | None:
    """MLflow's version number and run id, if the version was logged before."""
    digest = manifest.files[MODEL_FILE].sha256
    for one in client.search_model_versions(f"name = '{manifest.name}'"):
        if (one.tags.get("inflight.version"), one.tags.get("inflight.sha256")) == (manifest.version, digest):
            return str(one.version), str(one.run_id)
    return None


def _experiment_id(client: "mlflow.MlflowClient", name: str, tracking_uri: str) -> str:
    if (found := client.get_experiment_by_name(name)) is not None:
        return str(found.experiment_id)
    if not tracking_uri.startswith(_SQLITE):
        return str(client.create_experiment(name))
    # Next to the database; by default MLflow would use the current directory.
    database = Path(tracking_uri.removeprefix(_SQLITE)).absolute()
    return str(client.create_experiment(name, artifact_location=f"{database}-artifacts"))


def _log_version(
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
            client.log_param(run_id, param, _text(value)[:_MAX_PARAM_LENGTH])
        with tempfile.TemporaryDirectory(prefix="inflight-export-") as folder:
            artifacts.copy(registry.files, manifest, Path(folder) / version)
            client.log_artifacts(run_id, str(Path(folder) / version), ARTIFACTS)
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
        "inflight.sha256": manifest.files[MODEL_FILE].sha256,
        "inflight.primary_metric": manifest.primary_metric,
        "inflight.training_data_sha256": manifest.training_data_sha256,
        "inflight.training_run": lineage.training_run,
        "inflight.parent": lineage.parent or "",
        "inflight.scikit_learn": manifest.scikit_learn_version,
        **{f"inflight.dataset.{dataset}": digest for dataset, digest in lineage.datasets.items()},
    }
    return {tag: value[:_MAX_TAG_LENGTH] for tag, value in tags.items() if value}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
