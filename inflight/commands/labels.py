"""`inflight labels replay | publish`: publish labels, the true outcomes of requests."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inflight.errors import exits

if TYPE_CHECKING:
    from inflight.settings import Settings
    from producers.labels import RequestLabel

app = typer.Typer(
    name="labels",
    no_args_is_help=True,
    help="Publish labels, which the label joiner joins to their requests.",
    epilog="Example: [bold]inflight labels publish sold.csv[/bold]",
)

Rate = Annotated[float | None, typer.Option(help="Labels per second, evenly spaced; as fast as possible by default.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Maximum number of labels.")]
Delay = Annotated[float, typer.Option(min=0, metavar="SECONDS", help="Wait before the first label.")]
Shuffle = Annotated[bool, typer.Option("--shuffle", help="Publish in a random order, the same in every run.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the outcome as one JSON object.")]


@app.command(
    epilog="Examples: [bold]inflight replay diamonds --id-prefix d --limit 5000[/bold], then "
    "[bold]inflight labels replay diamonds --id-prefix d --limit 5000 --shuffle[/bold]; "
    "[bold]inflight labels replay titanic --delay 30[/bold]"
)
def replay(
    model: Annotated[str, typer.Argument(help="The dataset: diamonds, titanic, reviews.")],
    id_prefix: Annotated[
        str | None,
        typer.Option(
            help="The prefix of the replay whose requests are labelled, now or later. By default all replays of the "
            "dataset on the requests topic, except shifted ones."
        ),
    ] = None,
    repeat: Annotated[int, typer.Option(min=1, help="--repeat of that replay; only with --id-prefix.")] = 1,
    rate: Rate = None,
    limit: Limit = None,
    delay: Delay = 0.0,
    shuffle: Shuffle = False,
    as_json: AsJson = False,
) -> None:
    """Publish the labels of requests that `inflight replay` published from a dataset.

    --limit applies before --shuffle. Exit code 1 if any label failed or is indeterminate.
    """
    from inflight.adapters.models import known_models
    from producers.labels import labels_by_prefix, labels_by_requests

    def answers(settings: "Settings") -> "Iterable[RequestLabel]":
        examples = known_models([model])[model].examples(settings.data_dir)
        if id_prefix is not None:
            return labels_by_prefix(examples, model, id_prefix, repeat=repeat)
        return labels_by_requests(settings, list(examples), model)

    _publish(answers, rate, limit, delay, shuffle, as_json)


@app.command(epilog="Example: [bold]inflight labels publish sold.csv --rate 100[/bold]")
def publish(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="Labels (.jsonl, .csv): request_id, model, label, observed_at."),
    ],
    rate: Rate = None,
    limit: Limit = None,
    delay: Delay = 0.0,
    shuffle: Shuffle = False,
    as_json: AsJson = False,
) -> None:
    """Publish the labels in a file, each converted to the label type of its model: 1 and True are the same `bool`.

    A label of a model that is not installed here is the JSON value of its cell in a .csv file, or else its text.

    Exit code 1 if any label failed or is indeterminate, 2 at the first line that is no label.
    """
    from inflight.adapters.models import known_models
    from machine_learning_engineering.feature_store.examples import read_labels
    from producers.labels import RequestLabel

    def answers(_settings: "Settings") -> "Iterable[RequestLabel]":
        file.open("rb").close()
        types = {name: found.Label for name, found in known_models().items()}
        return (RequestLabel(one.request_id, one.model, one.label, one.observed_at) for one in read_labels(file, types))

    _publish(answers, rate, limit, delay, shuffle, as_json)


def _publish(
    answers: "Callable[[Settings], Iterable[RequestLabel]]",
    rate: float | None,
    limit: int | None,
    delay: float,
    shuffle: bool,
    as_json: bool,
) -> None:
    import time
    from functools import partial
    from itertools import islice

    from inflight.commands.replay import expected, prepare, publish_and_report
    from inflight.settings import load_settings
    from producers.labels import publish_labels, shuffled

    settings = load_settings()
    with exits(*expected()):
        prepare(settings, rate)
        found: Iterable[RequestLabel] = islice(answers(settings), limit)
        if shuffle:
            found = shuffled(found, settings.seed)
    time.sleep(delay)
    publish_and_report(partial(publish_labels, settings, found, rate=rate), limit, as_json)
