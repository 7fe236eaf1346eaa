"""Signs a registry anew: one that was written before there was a key, or with a key that is to be retired."""

from collections.abc import Iterator
from dataclasses import replace

from machine_learning_engineering.registry import aliases, artifacts, retrainings, rollouts
from machine_learning_engineering.registry.manifest import RegistryError
from machine_learning_engineering.registry.reader import RegistryReader
from machine_learning_engineering.storage.location import Location, Place


def sign_all(place: Place) -> Iterator[str]:
    """Sign every manifest, alias file and record of a model with the first key, whatever its signature is now.

    The digests of the files are verified before. The caller vouches for what is there.

    Yields:
        What was signed, such as ``diamonds:v3``.

    Raises:
        RegistryError: There is no key.
        CorruptModel: A file is damaged; those before it are signed.
    """
    if not isinstance(place, Location) or not place.keys:
        raise RegistryError("there is no key to sign with: set INFLIGHT_REGISTRY_SIGNING_KEY")
    signed, unsigned = RegistryReader(place), RegistryReader(replace(place, keys=(), cache=None))
    for name in unsigned.models():
        for version in unsigned.versions(name):
            artifacts.sign(signed.files, unsigned.verify(name, version))
            yield f"{name}:{version}"
        if aliases.sign(signed.files, unsigned.files, name):
            yield f"the aliases of {name}"
        if rollouts.sign(signed.files, unsigned.files, name):
            yield f"the rollouts of {name}"
        if retrainings.sign(signed.files, unsigned.files, name):
            yield f"the retrainings of {name}"
