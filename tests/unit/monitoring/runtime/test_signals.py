"""A process that is told to stop stops, whatever it does at that moment and however often it is told."""

import subprocess
import sys

import pytest

HEAD = """
import os, signal
from monitoring.runtime.process import until_signalled

def told():
    os.kill(os.getpid(), signal.SIGTERM)

with until_signalled() as stopping:
"""


@pytest.mark.parametrize(
    "body",
    [
        "    told()",
        "    with stopping._cond:  # As within `stopping.wait`, between two of its instructions.\n        told()",
        "    for _ in range(1_000):\n        told()",
    ],
    ids=["once", "while it holds the lock of the event", "a thousand times"],
)
def test_it_stops(body: str) -> None:
    program = f"{HEAD}{body}\n    assert stopping.wait(60)\nprint('stopped')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "stopped\n"), done.stderr


def test_handlers_and_descriptors_are_as_before_it() -> None:
    program = f"""{HEAD}    pass
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
before = os.listdir("/proc/self/fd")
with until_signalled():
    pass
assert os.listdir("/proc/self/fd") == before
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
