"""The page and its files: plain HTML, CSS and ES modules, from this package."""

from importlib.resources import files as package_files

from starlette.requests import Request
from starlette.responses import Response

from producers.gateway.problems import Problem

# Nothing of others, and nothing inline: what a producer writes can't become a script or a style.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_HOME = "index.html"


def _read() -> dict[str, tuple[bytes, str]]:
    folder = package_files("producers.gateway.console").joinpath("files")
    return {
        one.name: (one.read_bytes(), kind)
        for one in folder.iterdir()
        if (kind := next((kind for suffix, kind in _TYPES.items() if one.name.endswith(suffix)), ""))
    }


class Page:
    """Serves the page and its files; they are read once."""

    def __init__(self) -> None:
        self._files = _read()

    async def home(self, request: Request, caller: str) -> Response:
        """`GET /`."""
        return self._file(_HOME)

    async def file(self, request: Request, caller: str) -> Response:
        """`GET /console/{name}`."""
        name = request.path_params["name"]
        if name not in self._files or name == _HOME:
            raise Problem("not-found", "the console is at /")
        return self._file(name)

    def _file(self, name: str) -> Response:
        content, kind = self._files[name]
        return Response(content, media_type=kind, headers={"content-security-policy": POLICY})
