"""`inflight dlq list | show | replay`: show dead letters and publish them again."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from inflight.errors import exits, require_broker
from inflight.rendering import print_json, print_table, render, render_line, render_time

if TYPE_CHECKING:
    from datetime import datetime

    from machine_learning_engineering.dead_letters.reader import DeadLetter

app = typer.Typer(
    name="dlq",
    no_args_is_help=True,
    help="Show dead letters and publish them again.",
    epilog="Example: [bold]inflight dlq list --since 1h[/bold]",
)

Reason = Annotated[str | None, typer.Option(help="Only dead letters with this reason, as `list` shows it.")]
Model = Annotated[str | None, typer.Option(help="Only dead letters for this model.")]
Stage = Annotated[str | None, typer.Option(help="Only dead letters from this stage: decode, index, ...")]
Since = Annotated[str | None, typer.Option(help="Only from this time on: 15m, 2h, 1d ago, or 2026-01-31T12:00:00Z.")]
Until = Annotated[str | None, typer.Option(help="Only before this time, written like --since.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Maximum number.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command("list", epilog="Example: [bold]inflight dlq list --since 1h --reason not_json[/bold]")
def list_letters(
    reason: Reason = None,
    model: Model = None,
    stage: Stage = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List dead letters, the newest last: the newest ones if there are more than the limit."""
    from inflight.settings import load_settings
    from machine_learning_engineering.dead_letters import reader

    with exits(*_expected()):
        selection = reader.Selection(reason, model, stage, _time(since), _time(until))
        _require_broker()
        newest, count = reader.newest(load_settings(), selection, limit or 50)
    if as_json:
        print_json({"matching": count, "dead_letters": [_summary(letter) for letter in newest]})
        return
    _print_table(newest)
    typer.echo(f"{len(newest):,} of {count:,} dead letters that match", err=True)


@app.command(
    epilog="Examples: [bold]inflight dlq show 0:17[/bold], [bold]inflight dlq show 0:17 --raw > request.json[/bold]"
)
def show(
    address: Annotated[str, typer.Argument(metavar="PARTITION:OFFSET", help="The dead letter, as `list` shows it.")],
    raw: Annotated[bool, typer.Option("--raw", help="Write the exact bytes of the value, and nothing else.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show one dead letter: its origin, its headers and its bytes (up to 4 KiB)."""
    import base64
    import sys

    from inflight.settings import load_settings
    from machine_learning_engineering.dead_letters import reader

    with exits(*_expected()):
        place = reader.parse_address(address)
        _require_broker()
        letter = reader.find(load_settings(), place)
    if raw:
        sys.stdout.buffer.write(letter.value or b"")
        sys.stdout.buffer.flush()
        return
    if as_json:
        headers = [[name, None if value is None else value.decode(errors="replace")] for name, value in letter.headers]
        value = None if letter.value is None else base64.b64encode(letter.value).decode()
        print_json({**_summary(letter), "headers": headers, "value_base64": value})
        return
    for name, field in _summary(letter).items():
        typer.echo(f"{name:<13}{'-' if field is None else render_line(str(field), 2_000)}")
    typer.echo(f"{'headers':<13}{'' if letter.headers else '-'}")
    for name, content in letter.headers:
        shown = "null" if content is None else render_line(content.decode(errors="backslashreplace"))
        typer.echo(f"  {render_line(name)}: {shown}")
    typer.echo(f"\n{render(letter.value)}")


@app.command(
    epilog="Examples: [bold]inflight dlq replay 0:17 2:4[/bold], "
    "[bold]inflight dlq replay --model titanic --since 2h[/bold], [bold]inflight dlq replay --all --dry-run[/bold]"
)
def replay(
    addresses: Annotated[
        list[str] | None, typer.Argument(metavar="[PARTITION:OFFSET]...", help="Dead letters, as `list` shows them.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Replay all dead letters, without a filter.")] = False,
    reason: Reason = None,
    model: Model = None,
    stage: Stage = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = None,
    again: Annotated[bool, typer.Option("--again", help="Also replay those that were replayed before.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be replayed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Publish dead letters again to the topic they came from: the same bytes, key and headers, so the same id.

    Nothing is written to an existing topic of others: its records are scored again by way of the topic of requests.

    Replay them once the cause is fixed, for example when the missing model exists. A dead letter that was replayed from
    this machine before is skipped, unless --again is given. Exit code 1 if one was not published.
    """
    import logging

    from msgspec.structs import asdict

    from inflight.commands.replay import print_causes
    from inflight.settings import load_settings
    from machine_learning_engineering.dead_letters import reader
    from machine_learning_engineering.registry.sources import RegistrySources
    from producers import dead_letter_replay as dead_letters
    from producers.stop_signal import stop_on_signals

    # kafka-python would print each failed attempt; the report has the final outcome.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    settings = load_settings()

    def tell(letter: "DeadLetter", outcome: str) -> None:
        if outcome != "accepted" and not as_json:
            line = f"{letter.address}  {outcome.replace('_', ' ')}  (of {letter.origin.topic})"
            typer.echo(line, err=outcome != "would replay")

    with exits(*_expected()):
        chosen = frozenset(map(reader.parse_address, addresses or ()))
        selection = reader.Selection(reason, model, stage, _time(since), _time(until), chosen)
        if not everything and selection == reader.Selection():
            raise ValueError("name the dead letters to replay: PARTITION:OFFSET, a filter such as --reason, or --all")
        _require_broker()
        with stop_on_signals() as stop_signal:
            report = dead_letters.replay(
                settings,
                reader.select(settings, selection),
                again=again,
                dry_run=dry_run,
                limit=limit,
                on_result=tell,
                stop_signal=stop_signal,
                sources=RegistrySources(settings).topics(),
            )
    if as_json:
        print_json({**asdict(report), "dry_run": dry_run})
    else:
        typer.echo(
            f"{report.accepted:,} {'would be replayed' if dry_run else 'accepted'}, {report.failed:,} failed, "
            f"{report.indeterminate:,} indeterminate, {report.already_replayed:,} replayed before, "
            f"{report.unknown_topic:,} from a topic that is not ours"
        )
        if report.truncated:
            typer.echo(
                f"error: {report.truncated:,} hold only a part of their record: publish the original again, which is "
                "at the topic, partition and offset that `inflight dlq show` prints",
                err=True,
            )
        print_causes(report.errors)
    if report.interrupted:
        raise typer.Exit(130)
    if report.failed or report.indeterminate or report.unknown_topic or report.truncated:
        raise typer.Exit(1)


def _time(text: str | None) -> "datetime | None":
    from machine_learning_engineering.core.timestamps import parse_time

    return None if text is None else parse_time(text)


def _require_broker() -> None:
    """Fail fast, unlike the reader, which waits longer for a slow broker."""
    require_broker()
    from inflight.settings import load_settings
    from machine_learning_engineering.events.topics import DEAD_LETTERS
    from machine_learning_engineering.kafka.client import end_offsets

    end_offsets(load_settings(), DEAD_LETTERS, timeout=10)


def _summary(letter: "DeadLetter") -> dict[str, Any]:
    return {
        "address": str(letter.address),
        "at": render_time(letter.at, "milliseconds"),
        **letter.origin._asdict(),
        "key": None if letter.key is None else letter.key.decode(errors="backslashreplace"),
        "bytes": None if letter.value is None else len(letter.value),
    }


def _print_table(letters: "list[DeadLetter]") -> None:
    rows = []
    for letter in letters:
        found = letter.origin
        size = "-" if letter.value is None else f"{len(letter.value):,}"
        cells = [str(letter.address), render_time(letter.at), found.stage, found.reason]
        cells += [found.model or "-", found.request_id or "-", size, found.message]
        rows.append(cells)
    print_table(("address", "at", "stage", "reason", "model", "request id", "bytes", "message"), rows)


def _expected() -> tuple[type[BaseException], ...]:
    """Errors whose message names the fix."""
    from producers.journal import JournalInUse

    return ValueError, LookupError, JournalInUse
