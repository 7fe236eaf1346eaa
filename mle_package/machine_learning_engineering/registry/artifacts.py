"""Files of a model's versions in its folder: ``<version>/{model.skops,profile.json,similar.jsonl,manifest.json}``."""

import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

import msgspec

from machine_learning_engineering.core import files as durable
from machine_learning_engineering.registry.manifest import CorruptModel, Manifest, StoredFile
from machine_learning_engineering.registry.uri import VERSION

MANIFEST_FILE = "manifest.json"
PROFILE_FILE = "profile.json"


def versions(folder: Path) -> list[str]:
    """List the versions in a model's folder, oldest first."""
    found = [path.name for path in folder.iterdir() if VERSION.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(found, key=_number)


def add(folder: Path, contents: Mapping[str, bytes], manifest: Manifest) -> str:
    """Store files as the next version, atomically.

    Args:
        folder: The model's folder.
        contents: Content by file name.
        manifest: The manifest; its `version` and `files` are filled in here.

    Returns:
        The new version.
    """
    files = {file: StoredFile(_digest(content), len(content)) for file, content in contents.items()}
    durable.make_folder(folder)
    temporary = folder / f".saving-{uuid.uuid4().hex}"
    temporary.mkdir(mode=0o700)
    try:
        for file, content in contents.items():
            durable.write(temporary / file, content)
        while True:
            version = f"v{1 + max((_number(one) for one in versions(folder)), default=0)}"
            encoded = msgspec.json.encode(msgspec.structs.replace(manifest, version=version, files=files))
            durable.write(temporary / MANIFEST_FILE, msgspec.json.format(encoded, indent=2))
            if durable.rename_if_absent(temporary, folder / version):
                return version
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def read_manifest(folder: Path, version: str) -> Manifest:
    """Read the manifest of an existing version.

    Raises:
        CorruptModel: It is unreadable, or belongs to another model or version.
    """
    name, path = folder.name, folder / version / MANIFEST_FILE
    try:
        found = msgspec.json.decode(_read(path), type=Manifest)
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


def read_verified(folder: Path, manifest: Manifest, file: str) -> bytes:
    """Read a file of a version and verify its digest.

    Raises:
        CorruptModel: The file is unreadable or differs from what was saved.
    """
    path = folder / manifest.version / file
    what = f"{file} of model `{manifest.name}` {manifest.version}"
    fix = f"restore {path}, or run inflight train {manifest.name}"
    try:
        expected, content = manifest.files[file], _read(path)
    except (KeyError, OSError) as error:
        raise CorruptModel(f"{what} can't be read ({error}): {fix}") from error
    if (found := _digest(content)) != expected.sha256:
        raise CorruptModel(
            f"{what} has sha256 {found}, its manifest says {expected.sha256:.64}; it was not opened: {fix}"
        )
    return content


def _read(path: Path) -> bytes:
    """Read a file of a version; neither it nor the version's folder may be a link out of the registry."""
    if path.parent.is_symlink():
        raise OSError(
            errno.ELOOP, "the folder of a version is a symbolic link, which is not followed", str(path.parent)
        )
    with os.fdopen(durable.open_private(path, os.O_RDONLY), "rb") as file:
        return file.read()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _number(version: str) -> int:
    return int(version[1:])
