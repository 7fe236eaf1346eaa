"""Starting the process that opens a pickle, and judging what it reports."""

import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from machine_learning_engineering.adoption.opening.child import SECONDS, Report, Task
from machine_learning_engineering.adoption.opening.refusal import ModelRefused

_PROGRAM = "import sys; sys.path[:] = {path!r}; from {module} import main; main()"
_KEPT = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "LANG")


def convert(content: bytes, name: str, sample: Any = None) -> Report:
    """Open a pickle in a process of its own, without network, credentials or files to write.

    Args:
        content: Bytes of a pickle or of a joblib file.
        name: Name of the file, for messages.
        sample: Data frame that the original object answers there.

    Raises:
        ModelRefused: The file asks for what is not allowed, is damaged, or does not fit the installed libraries.
    """
    report = _run(content, name, sample)
    check(report, name)
    return report


def check(report: Report, name: str) -> None:
    """Raise `ModelRefused` with the reason and the fix, unless the file was opened."""
    if report.asked_for:
        raise ModelRefused(
            f"{name} asks for {report.asked_for}, which a model's file may not; nothing in it was run. If the model "
            "has a step of your own, build it of scikit-learn's, or write a model class: docs/your_own_model.md"
        )
    if report.malformed:
        raise ModelRefused(f"{name} can't be opened: {report.malformed}")
    if report.other_version:
        versions = ", ".join(report.scikit_learn_versions)
        raise ModelRefused(
            f"{name} was made with scikit-learn {versions}, installed is {report.installed}: install the model's, "
            f'pip install "scikit-learn=={report.scikit_learn_versions[0]}", or fit the model again'
        )
    if report.missing:
        raise ModelRefused(
            f"{name} needs what is not installed: {report.missing}; install the versions of the libraries that the "
            "model was fitted with"
        )
    if report.unanswered:
        raise ModelRefused(
            f"the model in {name} does not answer the sample: {report.unanswered}; the sample needs the columns that "
            "the model was fitted on"
        )


def _run(content: bytes, name: str, sample: Any) -> Report:
    rows = b"" if sample is None else pickle.dumps(sample)
    program = _PROGRAM.format(path=[str(Path(one).absolute()) for one in sys.path if one], module=Report.__module__)
    environment = {key: os.environ[key] for key in _KEPT if key in os.environ}
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-B", "-W", "ignore", "-c", program],
                input=msgspec.msgpack.encode(Task(content, rows)),
                capture_output=True,
                env=environment,
                cwd=folder,
                timeout=2 * SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ModelRefused(f"{name} was not opened within {2 * SECONDS} s: it was given up") from error
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise ModelRefused(
            f"{name} can't be opened: the process that reads it ended with {done.returncode}"
            f"{': ' + reason[:300] if reason else ', as at a limit of memory or time'}"
        )
    try:
        return msgspec.msgpack.decode(done.stdout, type=Report)
    except msgspec.MsgspecError as error:
        raise ModelRefused(f"{name} can't be opened: the process that reads it answers {error!s:.200}") from error
