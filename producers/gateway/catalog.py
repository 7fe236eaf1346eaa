"""The models in service, from the files of the registry: schemas, version and metrics of each champion. No model code.

It follows promotions: `refresh` looks whether the files of aliases have changed.
"""

import logging
import threading
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from machine_learning_engineering.observability.rate_limit import RATE_LIMITED
from machine_learning_engineering.registry import aliases as alias_file
from machine_learning_engineering.registry import artifacts, similar
from machine_learning_engineering.registry.aliases import ALIASES_FILE
from machine_learning_engineering.registry.files import RegistryFiles
from machine_learning_engineering.registry.manifest import CorruptModel, Manifest
from machine_learning_engineering.registry.similar import SimilarIndex
from machine_learning_engineering.registry.uri import CHAMPION, NAME
from machine_learning_engineering.storage.location import Place
from producers.gateway.examples import example
from producers.gateway.problems import Problem

logger = logging.getLogger(__name__)

DEFAULT_PREDICTION_NAME = "prediction"
# Parts of paths below /v1/ that are no models.
RESERVED = frozenset({"console", "models", "predictions", "streams"})


class ServedModel(Struct, frozen=True):
    """What developers need to know of a model. `example` is a valid row.

    `redacted_features` is what its author keeps out of logs; None if the version does not tell.
    """

    name: str
    version: str
    created_at: datetime
    metrics: dict[str, float]
    primary_metric: str
    prediction_name: str
    features_schema: dict[str, Any]
    prediction_schema: dict[str, Any]
    example: Any
    redacted_features: dict[str, str] | None
    similar: SimilarIndex | None = None
    similar_problem: str = ""
    """Why the index of similar rows can't be used, although the version has one."""

    @property
    def path(self) -> str:
        """The path of its route for developers; empty if its name is one of the gateway's own."""
        return "" if self.name in RESERVED else f"/v1/{self.name}/{self.prediction_name}"

    @property
    def similar_path(self) -> str:
        """The path of its route for similar rows; empty if it has none."""
        return "" if self.name in RESERVED or self.similar is None else f"/v1/{self.name}/similar"


class Catalog:
    """The champions of a registry."""

    def __init__(self, registry: Place) -> None:
        self._files = RegistryFiles(registry)
        self._stamps: dict[str, str] = {}
        self._lock = threading.Lock()
        self.models: dict[str, ServedModel] = {}
        self.revision = 0
        """Grows with each change."""

    def refresh(self) -> bool:
        """Read what has changed; return whether anything has. Blocks; for any thread.

        A model whose files are damaged keeps the version that was read before, and all do while the registry is
        unavailable.
        """
        with self._lock:
            try:
                return self._refresh()
            except OSError as error:
                logger.warning("the registry can't be read, the models stay as they are: %s", error, extra=RATE_LIMITED)
                return False

    def _refresh(self) -> bool:
        stamps = self._read_stamps()
        if stamps == self._stamps:
            return False
        models = dict(self.models)
        for name in models.keys() - stamps.keys():
            del models[name]
        for name, stamp in stamps.items():
            if stamp != self._stamps.get(name):
                try:
                    found = self._read(name)
                except (CorruptModel, OSError) as error:
                    logger.warning("model %s stays as it was: %s", name, error, extra=RATE_LIMITED)
                    # Tried again the next time.
                    stamps[name] = self._stamps.get(name, "")
                    continue
                models.pop(name, None)
                if found is not None:
                    models[name] = found
                    if found.similar_problem:
                        stamps[name] = ""
        self._stamps = stamps
        if models == self.models:
            return False
        self.models = dict(sorted(models.items()))
        self.revision += 1
        return True

    def _read_stamps(self) -> dict[str, str]:
        stamps = {name: self._files.stamp(f"{name}/{ALIASES_FILE}") for name in self._files.names()}
        return {name: stamp for name, stamp in stamps.items() if stamp is not None}

    def _read(self, name: str) -> ServedModel | None:
        version = alias_file.read(self._files, name)[0].get(CHAMPION)
        if version is None:
            return None
        manifest = artifacts.read_manifest(self._files, name, version)
        noun = manifest.prediction_name
        index, problem = self._read_similar(manifest)
        return ServedModel(
            name,
            version,
            manifest.created_at,
            manifest.metrics,
            manifest.primary_metric,
            noun if NAME.fullmatch(noun) else DEFAULT_PREDICTION_NAME,
            manifest.features_schema,
            manifest.prediction_schema,
            msgspec.to_builtins(example(manifest.features_schema)),
            manifest.redacted_features,
            similar=index,
            similar_problem=problem,
        )

    def _read_similar(self, manifest: Manifest) -> tuple[SimilarIndex | None, str]:
        """The index of similar rows, or why it can't be used: predictions do without it."""
        before = self.models.get(manifest.name)
        if before is not None and before.similar is not None and before.created_at == manifest.created_at:
            return before.similar, ""
        try:
            return similar.read(self._files, manifest), ""
        except CorruptModel as error:
            logger.warning("%s", error, extra=RATE_LIMITED)
            return None, f"the index of {manifest.name} {manifest.version} is damaged: the service log says more"


def served_model(catalog: Catalog, name: str) -> ServedModel:
    """The model of this name.

    Raises:
        Problem: none of this name is in service.
    """
    model = catalog.models.get(name)
    if model is None:
        known = ", ".join(catalog.models) or "none: run inflight train"
        raise Problem("unknown-model", f"model: no model of this name is in service; there are {known}")
    return model
