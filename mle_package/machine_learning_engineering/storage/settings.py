"""Settings of where files are: the home folder, the registry, and what trainings write. See `KernelSettings`."""

import logging
import re
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings

from machine_learning_engineering.storage.location import Location, Place, parse_place

logger = logging.getLogger(__name__)

AnyPlace = Annotated[Place | None, BeforeValidator(lambda value: None if value == "" else parse_place(value))]
"""A path, or a URL: ``file:``, ``s3:``, ``gs:``, ``az:``. An empty variable is none."""

WITHOUT_SHARED = dict.fromkeys(
    ("INFLIGHT_REGISTRY", "INFLIGHT_REGISTRY_SIGNING_KEY", "INFLIGHT_REGISTRY_SIGNING_KEY_FILE"), ""
)
"""Variables of a process that is to have nothing but its home, see `PlaceSettings.moved_to`."""
_MIN_KEY = 16


class PlaceSettings(BaseSettings):
    """Part of `settings.KernelSettings`, which reads it."""

    home: Path = Field(default_factory=lambda: _default_home())
    """Folder for everything kept on disk: broker data, model registry, downloaded datasets, logs. By default
    ``.inflight`` in the user's home folder. A relative path is made absolute when it is read, with a warning."""

    registry: AnyPlace = None
    """Registry that trainings write and all processes read: a folder or a URL; ``registry`` in `home` by default."""
    registry_signing_key: SecretStr | None = None
    """Secrets of at least 16 characters, separated by spaces or commas. The first one signs what is written to
    registries, each of them verifies; what is not signed is refused. Without a key nothing is signed or verified."""
    registry_signing_key_file: Annotated[Path | None, BeforeValidator(lambda value: value or None)] = None
    """File with these secrets, in place of the variable."""
    registry_cache_bytes: Annotated[int, Field(gt=0)] = 4 * 1024**3
    """Size of the local cache of a registry behind a URL, ``registry-cache`` in `home`. What was used last stays."""
    registry_timeout: Annotated[float, Field(gt=0)] = 10.0
    """Time without an answer after which a store behind a URL is unavailable."""

    train_data_target: AnyPlace = None
    """Folder or URL of the data layers of trainings; ``data-layers`` in `home` by default."""
    train_models_target: AnyPlace = None
    """Folder or URL of every fitted model; ``history`` in `home` by default."""
    train_sota_target: AnyPlace = None
    """Registry that takes the best model of a training; by default the one that workers open."""
    train_log_target: AnyPlace = None
    """File with one line per training, or URL of a folder with one object per training; ``training-log.jsonl`` in
    `home` by default."""

    @property
    def registry_dir(self) -> Place:
        """Folder or location of the registry, with the keys."""
        return self._signed(self.registry or self.home / "registry")

    def moved_to(self, home: Path) -> Self:
        """The same settings with another home, in which everything is: no registry or target elsewhere, no key."""
        elsewhere = ("registry", "registry_signing_key", "registry_signing_key_file")
        targets = ("train_data_target", "train_models_target", "train_sota_target", "train_log_target")
        return self.model_copy(update={"home": home, **dict.fromkeys((*elsewhere, *targets))})

    @property
    def layers_dir(self) -> Place:
        return self._cached(self.train_data_target or self.home / "data-layers")

    @property
    def history_dir(self) -> Place:
        return self._signed(self.train_models_target or self.home / "history")

    @property
    def sota_dir(self) -> Place:
        return self._signed(self.train_sota_target) if self.train_sota_target else self.registry_dir

    @property
    def training_log(self) -> Place:
        return self._cached(self.train_log_target or self.home / "training-log.jsonl")

    def _cached(self, place: Place) -> Place:
        if isinstance(place, Path):
            return place
        cache = self.home / "registry-cache"
        return replace(place, cache=cache, cache_bytes=self.registry_cache_bytes, timeout=self.registry_timeout)

    def _signed(self, place: Place) -> Place:
        """A registry with the keys. A local one without keys is a path."""
        keys = () if self.registry_signing_key is None else _split_keys(self.registry_signing_key)
        if not keys:
            return self._cached(place)
        location = Location(str(place.absolute())) if isinstance(place, Path) else place
        return self._cached(replace(location, keys=keys))

    @field_validator("home")
    @classmethod
    def _make_home_absolute(cls, home: Path) -> Path:
        if not home.is_absolute():
            _warn_once(
                f"INFLIGHT_HOME is relative: {home.absolute()} is used, from another folder another one; "
                f"export INFLIGHT_HOME={home.absolute()}"
            )
        return home.absolute()

    @model_validator(mode="before")
    @classmethod
    def _read_signing_keys(cls, values: Any) -> Any:
        if isinstance(values, dict) and (file := values.get("registry_signing_key_file")):
            if values.get("registry_signing_key"):
                raise ValueError("set INFLIGHT_REGISTRY_SIGNING_KEY or INFLIGHT_REGISTRY_SIGNING_KEY_FILE, not both")
            try:
                return values | {"registry_signing_key": Path(file).read_text(encoding="utf-8")}
            except (OSError, UnicodeDecodeError) as error:
                raise ValueError(
                    f"INFLIGHT_REGISTRY_SIGNING_KEY_FILE can't be read ({type(error).__name__}): correct it"
                ) from None
        return values

    @field_validator("registry_signing_key")
    @classmethod
    def _check_signing_keys(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and value.get_secret_value() == "":
            return None
        if value is not None:
            keys = _split_keys(value)
            if not keys or any(len(key) < _MIN_KEY for key in keys):
                raise ValueError(f"each key must have at least {_MIN_KEY} characters: openssl rand -hex 32 makes one")
        return value


def _split_keys(value: SecretStr) -> tuple[str, ...]:
    return tuple(filter(None, re.split(r"[\s,]+", value.get_secret_value())))


def _default_home() -> Path:
    """``~/.inflight``, so that every folder has the same."""
    here = Path(".inflight").absolute()
    try:
        home = Path.home() / ".inflight"
    except RuntimeError:  # A user without a name and without $HOME.
        _warn_once(f"the user has no home folder: {here} is used; set INFLIGHT_HOME")
        return here
    # Not any folder of this name: notebooks leave their results in one.
    if here != home and (here / "registry").is_dir():
        _warn_once(f"{home} is used, not {here}: to use that, export INFLIGHT_HOME={here}")
    return home


@lru_cache(maxsize=8)
def _warn_once(message: str) -> None:
    logger.warning("%s", message)
