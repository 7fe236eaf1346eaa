"""Scores a frame on a Dask cluster of two worker processes, and here; prints what differs, as JSON.

Arguments: the folder of a registry with the model `line`, and a folder for the cluster's files.
"""

import json
import os
import sys
from typing import Any

import dask.dataframe as dd
import distributed
import pandas as pd

from machine_learning_engineering.scoring.scorer import Scorer
from tests.support.line_model import Line


def main(registry: str, folder: str) -> dict[str, Any]:
    scorer = Scorer("line@champion", registry=registry, model_class=Line, batch_rows=100)
    frame = pd.DataFrame({"order": [f"o{n}" for n in range(2_000)], "number": [n % 13 + 0.5 for n in range(2_000)]})
    frame.loc[frame.index % 500 == 7, "number"] = None
    here = scorer(frame)

    def with_process(part: Any) -> Any:
        return scorer(part).assign(process=os.getpid())

    options = {"processes": True, "threads_per_worker": 1, "dashboard_address": None, "local_directory": folder}
    with (
        distributed.LocalCluster(n_workers=2, **options) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.wait_for_workers(2, timeout=60)
        meta = scorer(frame.head(0)).assign(process=0)
        found = dd.from_pandas(frame, npartitions=8).map_partitions(with_process, meta=meta).compute()
        workers = set(client.run(os.getpid).values())
        plain = dd.from_pandas(frame, npartitions=4).map_partitions(scorer, meta=scorer(frame.head(0))).compute()
    used = set(found.pop("process"))
    return {
        "workers": len(workers - {os.getpid()}),
        "used": used == workers,
        # The engine may store texts otherwise.
        "equal": bool(found.astype(here.dtypes).equals(here) and plain.astype(here.dtypes).equals(here)),
        "refused": int(here["error_type"].notna().sum()),
        "columns": list(here.columns),
    }


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
