"""`inflight adopt`: a fitted model becomes a model of the deployment, without a line of code."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inflight.errors import FAILED, exit_with, exits, print_error
from inflight.rendering import print_json, print_table, render_text

if TYPE_CHECKING:
    from inflight.adapters.adoption import Found
    from inflight.settings import Settings
    from machine_learning_engineering.adoption.rehearsal import Rehearsal

app = typer.Typer()


@app.command(
    epilog="Examples: [bold]inflight adopt fraud.joblib --sample orders.csv --label fraud --topic orders[/bold], "
    "[bold]inflight adopt mlflow:models:/fraud/1 --write[/bold], [bold]inflight adopt fraud.toml --write[/bold]. "
    "Exit code 1: it was refused, and the report says why."
)
def adopt(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A fitted model (file or URI), or a declaration (.toml).")
    ],
    sample: Annotated[
        str, typer.Option(metavar="FILE", help="Rows as the model was fitted on: .csv, .parquet or .jsonl.")
    ] = "",
    label: Annotated[str, typer.Option(metavar="COLUMN", help="Column of the sample with the true values.")] = "",
    topic: Annotated[str, typer.Option(help="Existing topic whose events are requests; its full name.")] = "",
    name: Annotated[str, typer.Option(help="Name of the model; by default that of the file.")] = "",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="The declaration; by default NAME.toml.")
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Write the declaration and save a version.")] = False,
    promote: Annotated[
        bool | None,
        typer.Option(
            "--promote/--no-promote", help="Whether the version becomes the champion; by default the first one does."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Look at a fitted model and what it needs; with --write, save it in the registry, ready for workers.

    Without --write nothing is saved; -o FILE writes the declaration alone, to be edited. The model's file is opened
    once, safely, and converted; its answers for the sample have to stay the same.
    """
    from inflight.adapters.adoption import EXPECTED, Options, from_declaration, from_model, rehearsal
    from inflight.errors import require_broker
    from inflight.settings import load_settings

    settings = load_settings()
    declared = model.endswith(".toml")
    target = Path(model) if declared and output is None else output
    with exits(*EXPECTED, failed=_refusals()):
        if topic:
            require_broker()
        folder = Path() if target is None else target.parent
        options = Options(name=name, label=label, sample=sample, topic=topic, folder=folder)
        if declared:
            if name or label or topic:
                raise exit_with("--name, --label and --topic are in the declaration: edit them there")
            found = from_declaration(model, options, settings)
        else:
            found = from_model(model, options, settings)
        rehearsed = rehearsal(found, settings)
        target = target or Path(f"{found.declaration.model.name}.toml")
        report = _Report(found, rehearsed, settings, target, shown=not json)
        report.show()
        if not write:
            report.finish_dry_run(draft=output is not None)
        else:
            report.write(promote)
    if json:
        print_json(report.json)
    if report.refused:
        raise typer.Exit(FAILED)


def _refusals() -> tuple[type[BaseException], ...]:
    from machine_learning_engineering.adoption.opening import ModelRefused
    from machine_learning_engineering.adoption.release import AdoptionRefused

    return ModelRefused, AdoptionRefused


class _Report:
    """Tells what was found and done, as text at once or as JSON in the end."""

    def __init__(
        self, found: "Found", rehearsal: "Rehearsal | None", settings: "Settings", target: Path, *, shown: bool
    ) -> None:
        from inflight.adapters.adoption_report import as_json

        self._found = found
        self._rehearsal = rehearsal
        self._settings = settings
        self._target = target
        self._shown = shown
        self.json: dict[str, Any] = as_json(found, rehearsal) | {"version": None, "champion": False, "written": []}
        self.refused = False

    def line(self, what: str, text: str) -> None:
        if self._shown:
            typer.echo(render_text(f"{what:>9}  {text}"))

    def refuse(self, why: str) -> None:
        self.refused = True
        self.json["refused"] = [*self.json.get("refused", []), why]
        print_error(why)

    def show(self) -> None:
        from inflight.adapters import adoption_report as told

        if not self._shown:
            return
        found = self._found
        for line in told.model_lines(found):
            self.line(*line)
        headings = ("feature", "type", "missing", "values", *(("field",) if found.declaration.source else ()))
        print_table(headings, (row[: len(headings)] for row in told.feature_rows(found)))
        for line in told.answer_lines(found):
            self.line(*line)
        for line in told.event_lines(found, self._rehearsal, self._settings):
            self.line(*line)

    def finish_dry_run(self, *, draft: bool) -> None:
        from inflight.adapters.adoption_report import diff_lines

        if draft:
            self._write_file()
        elif self._shown and self._found.proposal is not None:
            for line in diff_lines(self._target, self._found.text):
                typer.echo(render_text(line))
        if undecided := self._undecided():
            self.line("next", undecided)
        else:
            self.line("next", "nothing was saved: add --write to save it")

    def _undecided(self) -> str:
        names = [] if self._found.proposal is None else self._found.proposal.undecided
        if not names:
            return ""
        what = ", ".join(f"`{name}`" for name in names[:10])
        return (
            f"{what}: no single field of the events is known to be it. Write the declaration with -o {self._target}, "
            f"edit it, then: inflight adopt {self._target} --write"
        )

    def write(self, promote: bool | None) -> None:
        """Check, save, and promote."""
        from inflight.adapters.release import release
        from model.catalog import discover

        found = self._found
        if undecided := self._undecided():
            return self.refuse(undecided)
        assert found.candidate is not None
        name = found.declaration.model.name
        written = discover().models.get(name)
        if written is not None and not written.declaration:
            return self.refuse(f"there is a class for a model of the name `{name}`: choose another one with --name")
        if (parity := found.candidate.parity) is not None and not parity.exact:
            return self.refuse(f"it would not answer as the original does: {parity.text}")
        released = release(found, self._settings, promote)
        if released.broken:
            for problem in released.broken:
                self.refuse(f"a contract check fails: {problem}")
            return None
        self._write_file()
        self.json |= {"version": released.version, "champion": released.champion}
        self.line("checks", released.checks)
        self.line("saved", f"{name} {released.version}, {released.reason}")
        self.line("next", "inflight run" if released.champion else f"inflight models promote {name}:{released.version}")
        return None

    def _write_file(self) -> None:
        if self._found.proposal is None:
            return
        self._target.write_text(self._found.text, encoding="utf-8")
        self.json["written"] = [str(self._target)]
        self.line("wrote", str(self._target))
