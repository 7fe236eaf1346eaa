"""The class of each version of a model, adopted ones included, for readers of the log."""

from inflight.adapters.models import known_models
from machine_learning_engineering.adoption.catalog import adopted_class_of
from machine_learning_engineering.registry.manifest import RegistryError
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.sdk import MLEModel


class VersionClasses:
    """Classes of versions, by what is installed and what the registry keeps."""

    def __init__(self, registry: Registry) -> None:
        self._classes = known_models()
        self._registry = registry
        self._adopted: dict[tuple[str, str], type[MLEModel] | None] = {}

    def of(self, model: str, version: str = "") -> type[MLEModel] | None:
        """The class of a model, or of a version of an adopted one, which may be younger than this process."""
        written = self._classes.get(model)
        if written is not None and not getattr(written, "declaration", b""):
            return written
        try:
            version = version or self._registry.resolve(model)
            if (model, version) not in self._adopted:
                self._adopted[model, version] = adopted_class_of(self._registry, model, version)
            return self._adopted[model, version]
        except (RegistryError, ValueError):
            return written
