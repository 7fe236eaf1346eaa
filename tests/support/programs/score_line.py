"""Score files with `Line` in a process of its own, to be killed: REGISTRY OUTPUT FILE..."""

import sys
from pathlib import Path

from machine_learning_engineering.scoring.run import score_files
from machine_learning_engineering.scoring.scorer import Scorer
from tests.support.line_model import Line

registry, output, *files = sys.argv[1:]
score_files(Scorer("line", registry=registry, model_class=Line, batch_rows=50), files, Path(output), label="label")
