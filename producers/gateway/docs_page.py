"""The interactive documentation, served offline: Swagger UI from the package `swagger-ui-bundle`."""

from importlib.resources import files as package_files
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

# Swagger UI sets styles of elements, and has its icons in them; scripts come from files alone.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Inflight: predictions over HTTP</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
# This Swagger UI draws OpenAPI 3.1 as it draws 3.0, but knows only the older number.
_SCRIPT = """fetch("/openapi.json").then((response) => response.json()).then((spec) => {
  spec.openapi = "3.0.3";
  window.ui = SwaggerUIBundle({
    spec, dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null, tryItOutEnabled: true,
    supportedSubmitMethods: ["get", "post"]
  });
});
"""
_SERVED = frozenset({"swagger-ui.css", "swagger-ui-bundle.js"})


async def page(request: Request, caller: str) -> Response:
    """`GET /docs`."""
    return Response(_PAGE, media_type="text/html", headers={"content-security-policy": POLICY})


def folder() -> Path:
    """Where the package keeps the files of Swagger UI."""
    vendor = Path(str(package_files("swagger_ui_bundle"))) / "vendor"
    return next(path for path in sorted(vendor.iterdir(), reverse=True) if (path / "swagger-ui-bundle.js").is_file())


class DocsFiles:
    """The two files of Swagger UI that the page needs, and the script that starts it."""

    def __init__(self) -> None:
        self._static = StaticFiles(directory=folder())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path"].rpartition("/")[2]
        if name == "start.js":
            await Response(_SCRIPT, media_type="text/javascript")(scope, receive, send)
        elif name in _SERVED:
            await self._static(scope, receive, send)
        else:
            # Becomes the problem that any other unknown address is.
            raise HTTPException(404)
