"""Losses of predictions for the evidence of rollouts, by the models' own code, which `monitoring` does not import."""

import math

import msgspec

from inflight.adapters.version_classes import VersionClasses
from machine_learning_engineering.core.error_text import describe_origin
from machine_learning_engineering.core.faults import is_machine_fault
from machine_learning_engineering.core.json_values import decode_as
from machine_learning_engineering.observability.logging import log_event
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.sdk import MLEModel
from machine_learning_engineering.settings import KernelSettings


class RegistryLosses:
    """`monitoring.rollout_evidence.losses.Losses`, by the classes of the models."""

    def __init__(self, settings: KernelSettings) -> None:
        self._classes = VersionClasses(Registry(settings.registry_dir))
        self._opened: dict[tuple[str, str], _Version] = {}

    def loss(self, model: str, version: str, prediction: bytes, label: bytes) -> float | None:
        """See `monitoring.rollout_evidence.losses.Losses`."""
        found = self._version(model, version)
        return None if found is None else found.loss(prediction, label)

    def is_valid(self, model: str, version: str, prediction: bytes) -> bool:
        """See `monitoring.rollout_evidence.losses.Losses`. Of an unknown model, any JSON will do."""
        found = self._version(model, version)
        try:
            msgspec.json.decode(prediction) if found is None else found.decode(prediction)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return False
        return True

    def _version(self, model: str, version: str) -> "_Version | None":
        # Two versions of each rollout: few.
        if (model, version) not in self._opened:
            cls = self._classes.of(model, version)
            if cls is None:
                # It may reach this registry later.
                return None
            self._opened[model, version] = _Version(cls, version)
        return self._opened[model, version]


class _Version:
    def __init__(self, cls: type[MLEModel], version: str) -> None:
        self._model = cls()
        self._model.version = version
        # The decoder checks the limits that the schema states.
        self.decode = msgspec.json.Decoder(cls.Prediction).decode
        self._is_told = False

    def loss(self, prediction: bytes, label: bytes) -> float | None:
        try:
            decoded = self.decode(prediction), decode_as(label, self._model.Label)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        try:
            found = float(self._model.row_loss(*decoded))
        except Exception as error:  # The model's own code may raise anything.
            if is_machine_fault(error):
                raise
            if not self._is_told:
                self._is_told = True
                cause = describe_origin(error)
                log_event("rollout-evidence", "no_loss", model=self._model.name, cause=cause)
            return None
        return found if math.isfinite(found) else None
