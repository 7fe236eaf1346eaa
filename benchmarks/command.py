"""The command line of the benchmarks: one run from an empty broker to a table or a JSON object."""

from typing import Annotated, Literal

import typer

from benchmarks.cases.catalog import CASES

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_show_locals=False)


@app.command(epilog="Examples: python -m benchmarks; python -m benchmarks --only worker --only bare --skip-latency")
def bench(
    messages: Annotated[int, typer.Option(min=1_000, help="Requests of the backlog.")] = 100_000,
    runs: Annotated[int, typer.Option(min=1, help="Rounds; in each, every case runs once.")] = 3,
    only: Annotated[list[str] | None, typer.Option(help=f"Run this case only: {', '.join(CASES)}. Repeatable.")] = None,
    stack: Annotated[Literal["real", "embedded"], typer.Option(help="Apache Kafka, or the embedded broker.")] = "real",
    skip_throughput: Annotated[bool, typer.Option("--skip-throughput", help="Measure no backlogs.")] = False,
    skip_latency: Annotated[bool, typer.Option("--skip-latency", help="Measure no latency.")] = False,
    rate: Annotated[float, typer.Option(min=1, help="Requests a second while latency is measured.")] = 500,
    requests: Annotated[int, typer.Option(min=100, help="Requests whose latency is measured.")] = 10_000,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON object, alone on the last line.")] = False,
) -> None:
    """Measure the worker against bare loops and peers: same broker, same model, same requests, one core each."""
    from benchmarks.deployment import EvaluationError
    from benchmarks.report import print_report, to_json
    from benchmarks.run import Options, run

    if unknown := set(only or ()) - set(CASES):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: there are {', '.join(CASES)}", param_hint="--only")
    options = Options(
        messages=messages,
        runs=runs,
        cases=tuple(name for name in CASES if not only or name in only),
        stack=stack,
        throughput=not skip_throughput,
        latency=not skip_latency,
        rate=rate,
        requests=requests,
    )
    try:
        found = run(options, report=lambda line: typer.echo(line, err=True))
    except EvaluationError as error:
        typer.secho(str(error), fg="red", err=True)
        raise typer.Exit(2) from None
    if as_json:
        typer.echo(to_json(found))
    else:
        print_report(found)
    if any(case.wrong for case in found.throughput):
        raise typer.Exit(1)
