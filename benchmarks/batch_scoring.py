"""Memory and speed of `inflight score`, by the number of rows: `python -m benchmarks.batch_scoring`.

The files have one row group, the worst case for a reader, and two columns that are carried through. Each scoring is a
process of its own; the kernel tells the most that was resident, with what the libraries take.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from inflight.settings import Settings
from machine_learning_engineering.scoring.run import score_files
from machine_learning_engineering.scoring.scorer import Scorer
from machine_learning_engineering.training.quick import train
from tests.support.line_model import Line, some

CHUNK = 100_000
NOTE_BYTES = 512
"""Size of the text that is carried through in each row."""


def write_rows(path: Path, rows: int) -> float:
    """Write a file; return the size of its columns in memory, in megabytes."""
    random = np.random.default_rng(7)
    chunks = []
    for start in range(0, rows, CHUNK):
        count = min(CHUNK, rows - start)
        notes = [random.bytes(NOTE_BYTES // 2).hex() for _ in range(count)]
        columns = {"number": random.uniform(1, 10, count), "order": range(start, start + count), "note": notes}
        chunks.append(pa.table(columns))
    table = pa.concat_tables(chunks)
    pq.write_table(table, path, row_group_size=rows, compression="none", use_dictionary=False)
    return table.nbytes / 1e6


def greatest_mb() -> float:
    """The most memory of this process that was resident so far. (`getrusage` counts that of the parent, too.)"""
    status = Path("/proc/self/status").read_text()
    return float(status.partition("VmHWM:")[2].split()[0]) / 1e3


def score(home: Path, path: Path, output: Path) -> dict[str, float]:
    """Score a file in this process."""
    registry = Settings(home=home, _env_file=None).registry_dir  # type: ignore[call-arg]
    scorer = Scorer("line", registry=registry, model_class=Line)
    _ = scorer.model
    before = greatest_mb()
    started = time.perf_counter()
    done = score_files(scorer, [str(path)], output)
    seconds = time.perf_counter() - started
    return {"rows": done.rows, "rows_per_s": done.rows / seconds, "before_mb": before, "greatest_mb": greatest_mb()}


def main() -> None:
    """Measure each number of rows, and print a line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--child", nargs=3, type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(score(*given.child)))
        return
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        train(Line, Settings(home=home, _env_file=None), examples=some(2.0))  # type: ignore[call-arg]
        for rows in given.rows:
            path = home / f"{rows}.parquet"
            written = write_rows(path, rows)
            command = [sys.executable, "-m", "benchmarks.batch_scoring", "--child", home, path, home / f"out-{rows}"]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
            found = json.loads(done.stdout) | {"columns_mb": written, "file_mb": path.stat().st_size / 1e6}
            print(json.dumps({name: round(value, 1) for name, value in found.items()}), flush=True)


if __name__ == "__main__":
    main()
