"""Run notebooks from their source and save their outputs: ``python -m notebooks.execute [NAME ...]``."""

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
NAMES = sorted(path.stem for path in HERE.glob("*.py") if path.read_text(encoding="utf-8").startswith("# ---\n"))


def execute(name: str, *, seconds: int = 600) -> Any:
    """Run a notebook and return it with its outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell raised an error.
        nbclient.exceptions.CellTimeoutError: A cell took longer than `seconds`.
    """
    import jupytext  # type: ignore[import-untyped]
    import matplotlib.font_manager  # noqa: F401  # builds its font cache here: in a notebook it would print that
    from nbclient import NotebookClient
    from traitlets.config import Config

    notebook = jupytext.read(HERE / f"{name}.py")
    # As in Jupyter, the notebook's folder is the working folder.
    where = {"metadata": {"path": str(HERE)}}
    with tempfile.TemporaryDirectory(prefix="inflight-kernel-") as folder:
        # Sockets in a private folder, which no other user can open.
        sockets = Config(KernelManager={"transport": "ipc", "ip": f"{folder}/socket"})
        client = NotebookClient(notebook, timeout=seconds, kernel_name="python3", resources=where, config=sockets)
        # One thread, as everywhere in the product. Plots go into the notebook, whatever MPLBACKEND is set to.
        one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        client.execute(env={**one_thread, **os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline"})
    return notebook


def main(names: list[str], target: Path) -> None:
    """Write each notebook to `target` as an .ipynb file with its outputs."""
    import jupytext

    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        started = time.monotonic()
        path = target / f"{name}.ipynb"
        jupytext.write(execute(name), path)
        print(f"{path} ({time.monotonic() - started:.1f} s)", flush=True)


if __name__ == "__main__":
    if unknown := set(sys.argv[1:]) - set(NAMES):
        sys.exit(f"there is no notebook {', '.join(sorted(unknown))}: there are {', '.join(NAMES)}")
    main(sys.argv[1:] or NAMES, Path(".inflight") / "notebooks")
