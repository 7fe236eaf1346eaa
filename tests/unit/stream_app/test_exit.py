"""How a worker that can't go on ends."""

import subprocess
import sys

import pytest

EXIT = """
import logging, threading
from stream_app.runtime import scheduler
logging.basicConfig(format="%(message)s")
scheduler.EXIT_SECONDS = 1
def waits_for_ever():
    threading.Event().wait()
threading.Thread(target=waits_for_ever, daemon=True).start()
"""
HANGS = "logging.critical = logging.Logger.critical = lambda *_: threading.Event().wait()"


@pytest.mark.parametrize(("before", "code"), [("", 70), (HANGS, 1)], ids=["in-order", "the-log-hangs"])
def test_it_says_why_and_where_every_thread_is(before: str, code: int) -> None:
    """And it ends in any case, even if something holds the log."""
    program = f"{EXIT}{before}\nscheduler.exit_process('it has stalled')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code
    assert "in waits_for_ever" in done.stderr
    assert before or "it has stalled; exiting" in done.stderr
