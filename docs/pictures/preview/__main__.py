"""`python -m docs.pictures.preview`."""

import typer

from docs.pictures.preview.command import preview

typer.run(preview)
