"""`inflight joiner`, and `inflight labels replay | publish`: the true answers, and how good the predictions were."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inflight.errors import exit_for

if TYPE_CHECKING:
    from inflight.settings import Settings
    from producers.labels import TrueAnswer

labels = typer.Typer(no_args_is_help=True, help="Publish true answers, which the joiner brings to their requests.")

Rate = Annotated[float | None, typer.Option(help="Labels a second, evenly spaced; flat out by default.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Stop after so many labels.")]
Delay = Annotated[float, typer.Option(min=0, metavar="SECONDS", help="Wait so long before the first one.")]
Shuffle = Annotated[bool, typer.Option("--shuffle", help="In another order, the same at every run.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the outcome as one JSON object.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file to `app`."""
    app.command(
        "joiner",
        help="Join labels to the logged requests, and measure live quality, until SIGTERM.",
        epilog="Example: [bold]inflight joiner[/bold], then [bold]inflight labels replay diamonds[/bold]. "
        "Labels that come before their request wait in Elasticsearch; one that is away is waited for.",
    )(joiner)
    app.add_typer(labels, name="labels")


def joiner() -> None:
    """Run one joiner."""
    from inflight.adapters.evaluator import RegistryEvaluator
    from inflight.settings import load_settings
    from machine_learning_engineering.observability import logging as service_log
    from monitoring.labels.process import run

    settings = load_settings()
    service_log.configure_logging("joiner", settings)
    try:
        run(settings, RegistryEvaluator(settings))
    except Exception as error:
        raise exit_for(error, port="INFLIGHT_LABEL_JOINER_METRICS_PORT") from error


@labels.command(
    epilog="Examples: [bold]inflight replay diamonds --id-prefix d --limit 5000[/bold], then "
    "[bold]inflight labels replay diamonds --id-prefix d --limit 5000 --shuffle[/bold]; "
    "[bold]inflight labels replay titanic --delay 30[/bold]"
)
def replay(
    model: Annotated[str, typer.Argument(help="The dataset: diamonds, titanic, reviews.")],
    id_prefix: Annotated[
        str | None,
        typer.Option(
            help="Of the replay whose requests are labelled, which may be still to come. By default all replays of "
            "the dataset that are on the topic of requests, but for shifted ones."
        ),
    ] = None,
    repeat: Annotated[int, typer.Option(min=1, help="As the replay had it; only with --id-prefix.")] = 1,
    rate: Rate = None,
    limit: Limit = None,
    delay: Delay = 0.0,
    shuffle: Shuffle = False,
    as_json: AsJson = False,
) -> None:
    """Publish the true answers of requests that `inflight replay` published from a dataset.

    With --limit and --shuffle, the first so many labels are published in another order. Ends with code 1 if any label
    failed or is indeterminate.
    """
    from inflight.adapters.models import known_models
    from producers.labels import Example, of_prefix, of_requests

    def answers(settings: "Settings") -> "Iterable[TrueAnswer]":
        cls = known_models([model])[model]
        examples = (Example(one.features, one.label) for one in cls.examples(settings.data_dir))
        if id_prefix is not None:
            return of_prefix(examples, model, id_prefix, repeat=repeat)
        return of_requests(settings, list(examples), model)

    _publish(answers, rate, limit, delay, shuffle, as_json)


@labels.command(epilog="Example: [bold]inflight labels publish sold.csv --rate 100[/bold]")
def publish(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="True answers (.jsonl, .csv): request_id, model, label, observed_at."),
    ],
    rate: Rate = None,
    limit: Limit = None,
    delay: Delay = 0.0,
    shuffle: Shuffle = False,
    as_json: AsJson = False,
) -> None:
    """Publish the labels in a file. In a .csv file a label is the JSON value in its cell, or else its text.

    Ends with code 1 if any label failed or is indeterminate, and with 2 at the first line that is no label.
    """
    from machine_learning_engineering.feature_store.examples import read_labels
    from producers.labels import TrueAnswer

    def answers(_settings: "Settings") -> "Iterable[TrueAnswer]":
        file.open("rb").close()
        return (TrueAnswer(one.request_id, one.model, one.label, one.observed_at) for one in read_labels(file))

    _publish(answers, rate, limit, delay, shuffle, as_json)


def _publish(
    answers: "Callable[[Settings], Iterable[TrueAnswer]]",
    rate: float | None,
    limit: int | None,
    delay: float,
    shuffle: bool,
    as_json: bool,
) -> None:
    import logging
    import time
    from itertools import islice

    from inflight.commands.replay import expected, print_report, publishing
    from inflight.settings import load_settings
    from machine_learning_engineering.kafka.client import create_topics
    from producers.interruption import interruptible
    from producers.labels import publish_labels, shuffled
    from producers.replay import ReplayStopped

    # What kafka-python would print about each failed attempt is in our report, once it is final.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    settings = load_settings()
    try:
        if rate is not None and not rate > 0:
            raise ValueError(f"a rate is above 0 per second, not {rate}")
        create_topics(settings, timeout=10)
        found: Iterable[TrueAnswer] = islice(answers(settings), limit)
        if shuffle:
            found = shuffled(found, settings.seed)
    except Exception as error:
        raise exit_for(error, *expected()) from error
    stopped_by = None
    time.sleep(delay)
    with publishing(limit) as on_progress, interruptible() as interruption:
        try:
            report = publish_labels(settings, found, rate=rate, on_progress=on_progress, interruption=interruption)
        except ReplayStopped as stop:
            report, stopped_by = stop.report, stop.__cause__
        except Exception as error:
            raise exit_for(error, *expected()) from error
    print_report(report, as_json)
    if stopped_by is not None:
        raise exit_for(stopped_by, *expected())
    if report.interrupted:
        raise typer.Exit(130)
    if report.failed or report.indeterminate:
        raise typer.Exit(1)
