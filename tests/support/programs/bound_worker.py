"""A worker on existing topics: each argument is a declaration's file, whose model doubles the feature `n`.

Its settings come from the environment, as a real worker's do.
"""

import sys
from pathlib import Path

from inflight.settings import Settings
from machine_learning_engineering.declaration.framed import decoder_of
from machine_learning_engineering.declaration.reading import parse_declaration
from machine_learning_engineering.events.topics import RESULTS
from machine_learning_engineering.kafka.client import topic_name
from machine_learning_engineering.observability import logging as service_log
from stream_app.runtime import scheduler
from stream_app.serving.bindings import Binding, bindings_of
from stream_app.worker import Worker
from tests.support.request_records import Doubling

if __name__ == "__main__":
    # The cap loads numeric libraries, which takes seconds; this model needs none.
    scheduler.cap_numeric_threads = lambda: None  # type: ignore[attr-defined]
    settings = Settings(_env_file=None)
    service_log.configure_logging("worker", settings, packages=("stream_app",))
    declarations = [parse_declaration(Path(name).read_bytes()) for name in sys.argv[1:]]
    results = topic_name(settings, RESULTS)
    bindings = bindings_of(Binding(one, results, decoder_of(one)) for one in declarations)
    models = {one.model.name: Doubling() for one in declarations}
    Worker(settings, models, bindings=bindings).run()
