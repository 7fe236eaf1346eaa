"""Opens the store of a path or URL."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from machine_learning_engineering.storage.local import LocalStore
from machine_learning_engineering.storage.location import Location, Place, parse_place
from machine_learning_engineering.storage.objects import ObjectStore
from machine_learning_engineering.storage.store import Store


def open_store(place: Place) -> Store:
    """The store of a folder; those of one URL share their connections.

    Raises:
        StoreUnavailable: A URL needs the extra `stores`, or the cloud's variables are incomplete.
    """
    if isinstance(place, Path):
        return LocalStore(place)
    parsed = parse_place(place.url)
    return LocalStore(parsed) if isinstance(parsed, Path) else _remote(place)


@lru_cache(maxsize=16)
def _remote(location: Location) -> ObjectStore:
    return ObjectStore(location)


def local_path(place: Place) -> Path | None:
    """The path of a local folder; None behind a URL of an object store."""
    parsed = place if isinstance(place, Path) else parse_place(place.url)
    return parsed if isinstance(parsed, Path) else None


def read_file(place: Place) -> bytes:
    """Read the file of a path or URL.

    Raises:
        FileNotFoundError: There is none.
        StoreUnavailable: The store is unavailable.
    """
    folder, name = split(place)
    return open_store(folder).read(name)


def split(place: Place) -> tuple[Place, str]:
    """The folder of a file, and the name of the file.

    Raises:
        ValueError: The URL names a bucket.
    """
    if isinstance(place, Path):
        return place.parent, place.name
    url, _, name = place.url.rpartition("/")
    if url.endswith("/"):
        raise ValueError(f"{place} is a bucket, not a file in one")
    return replace(place, url=url), name
