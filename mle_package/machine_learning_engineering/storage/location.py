"""Where files are: the path of a local folder, or the URL of an object store."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias
from urllib.parse import unquote, urlsplit

SCHEMES = ("s3", "gs", "az")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(?=/|$)|([A-Za-z][A-Za-z0-9+.-]*)://")
_FORMS = "a path, file:///FOLDER, s3://BUCKET/FOLDER, gs://BUCKET/FOLDER or az://CONTAINER/FOLDER"


@dataclass(frozen=True)
class Location:
    """The URL of an object store, or of a local folder whose files are signed.

    `cache` is a local folder for what is read, of at most `cache_bytes`. `keys` sign (the first one) and verify (each
    of them); without any, nothing is signed or verified. `timeout` is in seconds.
    """

    url: str
    cache: Path | None = None
    cache_bytes: int = 4 * 1024**3
    timeout: float = 10.0
    keys: tuple[str, ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        return self.url

    def child(self, name: str) -> "Location":
        """The same for a file or folder in it."""
        return Location(f"{self.url.rstrip('/')}/{name}", self.cache, self.cache_bytes, self.timeout, self.keys)


Place: TypeAlias = Path | Location
"""A path is a local folder or file without signatures."""


def parse_place(text: str | Path | Location) -> Place:
    """Parse a path or URL.

    Raises:
        ValueError: The URL has another scheme, no bucket, or holds credentials. It is not quoted.
    """
    if not isinstance(text, str):
        return text
    found = _SCHEME.match(text)
    if found is None:
        return Path(text)
    scheme = (found[1] or found[2]).lower()
    if scheme == "file":
        parts = urlsplit(text)
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise ValueError("a file: URL needs an absolute path, as file:///srv/models")
        return Path(unquote(parts.path))
    if scheme not in SCHEMES:
        raise ValueError(f"the scheme {scheme[:20]}: is not supported: use {_FORMS}")
    parts = urlsplit(text)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(
            f"a URL {scheme}: holds neither credentials nor a query: set the cloud's own variables, such as "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if not parts.netloc:
        raise ValueError(f"the URL names no bucket: use {_FORMS}")
    folder = "/".join(part for part in parts.path.split("/") if part)
    return Location(f"{scheme}://{parts.netloc}{'/' + folder if folder else ''}")


def is_url(text: str) -> bool:
    """Whether a text is a URL of a supported scheme, and no path."""
    found = _SCHEME.match(text)
    return found is not None and (found[1] or found[2]).lower() in (*SCHEMES, "file")
