"""Speaks to a gateway with NVIDIA's `tritonclient`, in an environment of its own. Prints what it got, as JSON.

Arguments: the port, and a file of rows in JSON.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.http as triton
from tritonclient.http.aio import InferenceServerClient as AsyncClient
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

MODEL = "diamonds"


def inputs(rows: list[dict[str, Any]], *, binary: bool = True, floats: Any = np.float64) -> list[Any]:
    """A tensor for each feature, of the shape [n, 1]."""
    found = []
    for name, value in rows[0].items():
        kind: Any = np.object_ if isinstance(value, str) else floats
        values = np.array([[row[name]] for row in rows], dtype=kind)
        tensor = triton.InferInput(name, values.shape, np_to_triton_dtype(values.dtype))
        tensor.set_data_from_numpy(values, binary_data=binary)
        found.append(tensor)
    return found


def failure(function: Any, *arguments: Any, **options: Any) -> list[str]:
    """Status and message of an error."""
    try:
        function(*arguments, **options)
    except InferenceServerException as error:
        return [error.status(), error.message()]
    raise AssertionError("no error")


async def asynchronous(port: int, rows: list[dict[str, Any]]) -> list[float]:
    async with AsyncClient(f"127.0.0.1:{port}") as client:
        found = await client.infer(MODEL, inputs(rows))
        return found.as_numpy("price").tolist()


def main(port: int, rows: list[dict[str, Any]]) -> dict[str, Any]:
    client = triton.InferenceServerClient(f"127.0.0.1:{port}", concurrency=len(rows))
    metadata = client.get_model_metadata(MODEL)
    version = metadata["versions"][0]
    usual = client.infer(MODEL, inputs(rows), request_id="triton-1")
    objects = triton.InferInput("features", [len(rows)], "BYTES")
    objects.set_data_from_numpy(np.array([json.dumps(row) for row in rows], dtype=np.object_))
    only_price = [triton.InferRequestedOutput("price", binary_data=False)]
    # Each holds its connection until its result is taken.
    pending = [client.async_infer(MODEL, inputs([row])) for row in rows]
    one_by_one = [one.get_result().as_numpy("price").tolist()[0] for one in pending]
    return {
        "live": client.is_server_live(),
        "ready": [client.is_server_ready(), client.is_model_ready(MODEL), client.is_model_ready(MODEL, version)],
        "unknown": [client.is_model_ready("nothing"), client.is_model_ready(MODEL, "v99")],
        "server": client.get_server_metadata(),
        "metadata": metadata,
        "id": usual.get_response()["id"],
        "version": usual.get_response()["model_version"],
        "price": usual.as_numpy("price").tolist(),
        "prediction": [json.loads(one) for one in usual.as_numpy("prediction")],
        "again": client.infer(MODEL, inputs(rows), request_id="triton-1").as_numpy("price").tolist(),
        "json": client.infer(MODEL, inputs(rows, binary=False), outputs=only_price).as_numpy("price").tolist(),
        "fp32": client.infer(MODEL, inputs(rows, floats=np.float32)).as_numpy("price").tolist(),
        "objects": client.infer(MODEL, [objects], model_version=version).as_numpy("price").tolist(),
        "one_by_one": one_by_one,
        "asynchronous": asyncio.run(asynchronous(port, rows)),
        "errors": {
            "model": failure(client.infer, "nothing", inputs(rows)),
            "version": failure(client.infer, MODEL, inputs(rows), model_version="v99"),
            "features": failure(client.infer, MODEL, inputs([rows[0] | {"carat": -1.0}])),
            "reused": failure(client.infer, MODEL, inputs(rows[:1]), request_id="triton-1"),
        },
    }


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text()))))
