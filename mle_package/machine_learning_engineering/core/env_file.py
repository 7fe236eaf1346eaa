"""The file of settings: which one is read, and whether it may be believed.

No file of the current folder is: whoever makes a user work in a folder could otherwise send the user's keys elsewhere.
"""

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

VARIABLE = "INFLIGHT_ENV_FILE"
NAME = ".env"


class UntrustedEnvFile(ValueError):
    """A file of settings is missing or may have been written by others; the message names the fix."""


def env_file(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Find the file of settings.

    Returns:
        The file that ``INFLIGHT_ENV_FILE`` names, otherwise ``.env`` in the folder that the variable ``INFLIGHT_HOME``
        names, if there is one and the path is absolute: a relative one depends on the current folder. Else None.

    Raises:
        UntrustedEnvFile: The named file is missing, belongs to another user, or others may write it.
    """
    if named := environment.get(VARIABLE):
        path = Path(named)
    else:
        path = Path(environment.get("INFLIGHT_HOME", "")) / NAME
        if not path.is_absolute() or not path.exists():
            return None
    check_trusted(path, VARIABLE, "redirect your keys")
    return path


def check_trusted(path: Path, variable: str, harm: str) -> None:
    """Check that a file of settings is there and was written by nobody else.

    Args:
        variable: The setting that may name it.
        harm: What somebody else could do by writing it.

    Raises:
        UntrustedEnvFile: It is missing, belongs to another user, or others may write it.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise UntrustedEnvFile(f"{path} can't be read ({error.strerror}): correct or unset {variable}") from None
    if not stat.S_ISREG(found.st_mode):
        raise UntrustedEnvFile(f"{path} is not a file: correct or unset {variable}")
    if found.st_uid not in (os.geteuid(), 0):
        raise UntrustedEnvFile(f"{path} belongs to another user, who could {harm}: copy it, or chown it")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UntrustedEnvFile(f"others may write {path} and so {harm}: chmod 600 {path}")


def check_sources(
    pairs: Iterable[tuple[str, str]], environment: Mapping[str, object], file: Mapping[str, object]
) -> None:
    """Refuse a secret of one source together with the address of another, which would receive it.

    A default address is no source.

    Args:
        pairs: Names of variables, a secret's and that of the address that it is sent to.
        environment: Variables of the process, by lower-case name.
        file: Those of the file of settings.

    Raises:
        UntrustedEnvFile: The two come from different sources.
    """
    for secret, address in pairs:
        of_secret, of_address = (
            "the environment" if name.lower() in environment else "the file of settings" if name.lower() in file else ""
            for name in (secret, address)
        )
        if of_secret and of_address and of_secret != of_address:
            raise UntrustedEnvFile(
                f"{secret} is set in {of_secret} and {address} in {of_address}: set both in the same place, so that a "
                "key is not sent to an address that somebody else chose"
            )
