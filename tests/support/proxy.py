"""HAProxy in front of some gateways, with the configuration that docs/gateway.md gives."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from inflight.stack.process import foreign_environment
from tests.support.http_clients import call
from tests.support.waiting import until

PAGE = Path(__file__).parents[2] / "docs" / "gateway.md"
_CONFIGURATION = re.compile(r"^```haproxy\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SERVERS = re.compile(r"(?:^    server .*\n)+", re.MULTILINE)


def require_haproxy() -> str:
    """The path of HAProxy; skips the test without one, or fails it where all has to be real."""
    found = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if found is None:
        assert not os.environ.get("REQUIRE_REAL"), "haproxy is missing: apt-get install haproxy"
        pytest.skip("haproxy is missing (apt-get install haproxy)")
    return found


def configuration(port: int, gateways: Sequence[int]) -> str:
    """That of the page, for these ports."""
    [text] = _CONFIGURATION.findall(PAGE.read_text(encoding="utf-8"))
    [line] = {one.split("127.0.0.1:")[1].split(maxsplit=1)[1] for one in _SERVERS.search(text)[0].splitlines()}  # type: ignore[index]
    servers = "".join(f"    server gateway{port} 127.0.0.1:{port} {line}\n" for port in gateways)
    return _SERVERS.sub(servers, text).replace("bind :443", f"bind 127.0.0.1:{port}")


@contextmanager
def proxy(folder: Path, port: int, gateways: Sequence[int]) -> Iterator[subprocess.Popen[bytes]]:
    """A proxy that gives requests to these gateways in turn; ready within the block."""
    program = require_haproxy()
    file = folder / "haproxy.cfg"
    file.write_text(configuration(port, gateways))
    with (folder / "haproxy.log").open("wb") as log:
        running = subprocess.Popen(
            [program, "-db", "-f", str(file)], env=foreign_environment(), stdout=log, stderr=subprocess.STDOUT
        )
    try:

        def answers() -> bool:
            assert running.poll() is None, (folder / "haproxy.log").read_text()
            return call(port, "GET", "/v2/health/live").status == 200

        until(answers, 120, "the proxy reaches a gateway")
        yield running
    finally:
        running.terminate()
        running.wait(30)
