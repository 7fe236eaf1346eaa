"""Files of a model's versions: ``<name>/<version>/{model.skops,profile.json,similar.jsonl,manifest.json}``.

A version exists when its manifest does, which is written last. Of several machines that save at once, each gets a
number of its own; one that is killed leaves a number that nobody uses.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from machine_learning_engineering.core import files as durable
from machine_learning_engineering.registry.files import RegistryFiles
from machine_learning_engineering.registry.manifest import CorruptModel, Manifest, RegistryError, StoredFile
from machine_learning_engineering.registry.signing import unsigned
from machine_learning_engineering.registry.uri import VERSION
from machine_learning_engineering.storage.store import StoreUnavailable

MANIFEST_FILE = "manifest.json"
PROFILE_FILE = "profile.json"
_ATTEMPTS = 100


def versions(files: RegistryFiles, name: str) -> list[str]:
    """List the versions of a model, oldest first."""
    return sorted(filter(VERSION.fullmatch, files.folders(name, MANIFEST_FILE)), key=_number)


def add(files: RegistryFiles, contents: Mapping[str, bytes], manifest: Manifest) -> str:
    """Store files as the next version, atomically.

    Args:
        files: Of the registry.
        contents: Content by file name.
        manifest: The manifest; its `version` and `files` are filled in here.

    Returns:
        The new version.

    Raises:
        StoreUnavailable: The store is unavailable; there is no new version.
    """
    name = manifest.name
    stored = {file: StoredFile(_digest(content), len(content)) for file, content in contents.items()}
    for _ in range(_ATTEMPTS):
        taken = filter(VERSION.fullmatch, files.store.folders(name))
        version = f"v{1 + max(map(_number, taken), default=0)}"
        document = _document(files, msgspec.structs.replace(manifest, version=version, files=stored))
        if files.store.write_folder(f"{name}/{version}", {**contents, MANIFEST_FILE: document}):
            return version
    raise RegistryError(f"model `{name}` was not saved: {_ATTEMPTS} numbers were taken by others one after the other")


def sign(files: RegistryFiles, manifest: Manifest) -> None:
    """Write the manifest of a version anew, signed with the first key. The caller has verified its files.

    Raises:
        CorruptModel: It is another one than `manifest`.
        Conflict: Somebody else writes it.
    """
    name, version = manifest.name, manifest.version
    with files.store.edit(_key(name, version)) as file:
        # The text that is there, with what a later release may have added.
        content = unsigned(file.content or b"")
        try:
            found = msgspec.json.decode(content, type=Manifest)
        except (ValueError, RecursionError):
            found = None
        if found != manifest:
            raise CorruptModel(f"the manifest of model `{name}` {version} was changed in the meantime: repeat it")
        file.replace(files.sign(msgspec.json.format(content, indent=2), _subject(name, version)))


def _document(files: RegistryFiles, manifest: Manifest) -> bytes:
    content = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    return files.sign(content, _subject(manifest.name, manifest.version))


def read_manifest(files: RegistryFiles, name: str, version: str) -> Manifest:
    """Read the manifest of an existing version.

    Raises:
        CorruptModel: It is unreadable, its signature is refused, or it belongs to another model or version.
        StoreUnavailable: The store is unavailable, and the file was never read before.
    """
    key = _key(name, version)
    path = f"{files.url}/{key}"
    try:
        found = msgspec.json.decode(files.document(key, _subject(name, version)), type=Manifest)
    except StoreUnavailable:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise CorruptModel(
            f"the manifest of model `{name}` {version} can't be read ({error!s:.500}): "
            f"restore {path}, or move its folder away"
        ) from error
    if (found.name, found.version) != (name, version):
        raise CorruptModel(
            f"{path} belongs to model `{found.name:.128}` {found.version:.128}, not to `{name}` {version}: "
            "restore the folder, or move it away"
        )
    return found


def read_verified(files: RegistryFiles, manifest: Manifest, file: str, *, fresh: bool = False) -> bytes:
    """Read a file of a version and verify its digest.

    Args:
        files: Of the registry.
        manifest: Of the version.
        file: Its name.
        fresh: Read it from the store, although it may be in the cache.

    Raises:
        CorruptModel: The file is unreadable or differs from what was saved.
        StoreUnavailable: The store is unavailable, and the file is not in the cache.
    """
    key = f"{manifest.name}/{manifest.version}/{file}"
    what = f"{file} of model `{manifest.name}` {manifest.version}"
    fix = f"restore {files.url}/{key}, or run inflight train {manifest.name}"
    try:
        expected = manifest.files[file]
        content = files.content(key, expected.sha256, expected.size, fresh=fresh)
    except StoreUnavailable:
        raise
    except (KeyError, OSError) as error:
        raise CorruptModel(f"{what} can't be read ({error}): {fix}") from error
    if (found := _digest(content)) != expected.sha256:
        raise CorruptModel(
            f"{what} has sha256 {found}, its manifest says {expected.sha256:.64}; it was not opened: {fix}"
        )
    return content


def copy(files: RegistryFiles, manifest: Manifest, folder: Path) -> None:
    """Copy the verified files of a version, and its manifest without a signature, into a new folder.

    Raises:
        CorruptModel: A file differs from what was saved.
    """
    durable.make_folder(folder)
    for file in manifest.files:
        durable.write(folder / Path(file).name, read_verified(files, manifest, file))
    durable.write(folder / MANIFEST_FILE, msgspec.json.format(msgspec.json.encode(manifest), indent=2))


def _key(name: str, version: str) -> str:
    return f"{name}/{version}/{MANIFEST_FILE}"


def _subject(name: str, version: str) -> str:
    return f"manifest of {name} {version}"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _number(version: str) -> int:
    return int(version[1:])
