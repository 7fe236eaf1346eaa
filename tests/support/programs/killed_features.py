"""`inflight features follow diamonds`, killed as with kill -9 after rows were kept and before the examples are written.

The argument is how many labelled requests the store has to hold then.
"""

import os
import signal
import sys
from pathlib import Path

from inflight.cli import app
from machine_learning_engineering.feature_store.examples import BuildReport, ExampleBuilder

COUNT = int(sys.argv[1])
write_examples = ExampleBuilder.write_examples


def killed(builder: ExampleBuilder, folder: Path) -> BuildReport:
    if min(builder.requests, builder.labels) >= COUNT:
        os.kill(os.getpid(), signal.SIGKILL)
    return write_examples(builder, folder)


ExampleBuilder.write_examples = killed  # type: ignore[method-assign]
app(["features", "follow", "diamonds", "--every", "0.3"])
