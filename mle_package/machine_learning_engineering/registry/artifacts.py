"""The files of a model's versions: ``<version>/{model.skops,profile.json,manifest.json}`` below the model's folder."""

import hashlib
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
    """The versions in a model's folder, oldest first."""
    found = [path.name for path in folder.iterdir() if VERSION.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(found, key=_number)


def add(folder: Path, contents: Mapping[str, bytes], manifest: Manifest) -> str:
    """Keep files as the next version, which appears whole or not at all and is returned.

    Args:
        manifest: what is known of the version but its number and the digests of its files.
    """
    files = {file: StoredFile(_digest(content), len(content)) for file, content in contents.items()}
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".saving-{uuid.uuid4().hex}"
    temporary.mkdir()
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


def manifest(folder: Path, version: str) -> Manifest:
    """The manifest of a version that is there.

    Raises:
        CorruptModel: it can't be read, or belongs to another model or version.
    """
    name, path = folder.name, folder / version / MANIFEST_FILE
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptModel(
            f"the manifest of model `{name}` {version} can't be read ({error}): restore {path}, or move its folder away"
        ) from error
    if (found.name, found.version) != (name, version):
        raise CorruptModel(f"{path} belongs to model `{found.name}` {found.version}, not to `{name}` {version}")
    return found


def verified(folder: Path, manifest: Manifest, file: str) -> bytes:
    """The bytes of a file of a version, once they are known to be those that were saved.

    Raises:
        CorruptModel: they are not, or can't be read.
    """
    path = folder / manifest.version / file
    what = f"{file} of model `{manifest.name}` {manifest.version}"
    try:
        expected, content = manifest.files[file], path.read_bytes()
    except (KeyError, OSError) as error:
        raise CorruptModel(f"{what} can't be read: {error}") from error
    if (found := _digest(content)) != expected.sha256:
        raise CorruptModel(
            f"{what} has sha256 {found}, its manifest says {expected.sha256}: it was not opened; "
            f"restore the file or run inflight train {manifest.name}"
        )
    return content


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _number(version: str) -> int:
    return int(version[1:])
