"""Versions in a real MLflow on SQLite; how to run it is in docs/registry.md."""

import hashlib
import warnings

import pytest

from machine_learning_engineering.registry.manifest import CorruptModel, Lineage, RegistryError
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.training.quick import train

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    mlflow = pytest.importorskip("mlflow", reason='MLflow is not installed: pip install "./mle_package[mlflow]"')

from machine_learning_engineering.registry.mlflow_export import export

# MLflow's own.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def registry(doubler_class, settings):
    train(doubler_class, settings)
    return Registry(settings.registry_dir)


@pytest.fixture
def tracking(tmp_path):
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def client(tracking):
    return mlflow.MlflowClient(tracking_uri=tracking, registry_uri=tracking)


def test_a_version_becomes_a_run_and_a_registered_model(registry, tracking, client):
    exported = export(registry, "doubler", "v1", tracking_uri=tracking)
    manifest = registry.manifest("doubler", "v1")
    run = client.get_run(exported.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == pytest.approx(manifest.metrics)
    assert run.data.params["rows_trained"] == str(manifest.params["rows_trained"])
    assert run.data.params["seed"] == str(manifest.seed)
    assert run.data.tags["inflight.training_data_sha256"] == manifest.training_data_sha256
    assert client.get_experiment(run.info.experiment_id).name == "doubler"
    model = client.get_model_version_by_alias("doubler", "champion")
    assert (model.version, model.run_id) in {("1", exported.run_id), (1, exported.run_id)}
    assert exported.mlflow_uri == "models:/doubler/1"
    assert exported.aliases == ["champion"]


def test_the_model_file_in_mlflow_is_the_one_of_the_registry(registry, tracking, client, tmp_path):
    exported = export(registry, "doubler", "v1", tracking_uri=tracking)
    files = {file.path for file in client.list_artifacts(exported.run_id, "model")}
    assert files == {"model/manifest.json", "model/model.skops", "model/profile.json"}
    path = client.download_artifacts(exported.run_id, "model/model.skops", str(tmp_path))
    with open(path, "rb") as file:  # noqa: PTH123
        digest = hashlib.sha256(file.read()).hexdigest()
    assert digest == registry.manifest("doubler", "v1").files["model.skops"].sha256
    # Beside the database, not in the folder that one happens to be in.
    assert (tmp_path / "mlflow.db-artifacts").is_dir()


def test_a_version_is_logged_once_and_its_aliases_follow(registry, tracking, client, doubler_class):
    first = export(registry, "doubler", "v1", tracking_uri=tracking)
    assert export(registry, "doubler", "v1", tracking_uri=tracking) == first
    model = registry.open("doubler", model_class=doubler_class)
    model.estimator.coef_ = model.estimator.coef_ * 2
    lineage = Lineage("run-2", {"silver-1": "ab" * 32}, "v1")
    registry.save(model, metrics={"r2": 0.5}, training_data_sha256="cd" * 32, seed=1, lineage=lineage)
    registry.promote("doubler", "v2")
    second = export(registry, "doubler", "v2", tracking_uri=tracking, experiment="other")
    assert second.mlflow_uri == "models:/doubler/2"
    assert len(client.search_model_versions("name = 'doubler'")) == 2
    assert client.get_model_version_by_alias("doubler", "champion").run_id == second.run_id
    tags = client.get_run(second.run_id).data.tags
    assert (tags["inflight.training_run"], tags["inflight.parent"]) == ("run-2", "v1")
    assert tags["inflight.dataset.silver-1"] == "ab" * 32


def test_a_damaged_version_is_not_logged(registry, tracking, client):
    (registry.path / "doubler" / "v1" / "model.skops").write_bytes(b"damaged")
    with pytest.raises(CorruptModel):
        export(registry, "doubler", "v1", tracking_uri=tracking)
    assert client.search_registered_models() == []


def test_an_address_that_is_none_is_an_error_that_names_it(registry):
    with pytest.raises(RegistryError, match=r"was not logged to MLflow at nowhere://"):
        export(registry, "doubler", "v1", tracking_uri="nowhere://x")
