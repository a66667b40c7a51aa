"""A real nginx in front of servers, with the configuration of the example."""

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.patience import PATIENCE
from tests.support.ports import reserved_port
from tests.support.project import ROOT

EXAMPLE = ROOT / "examples" / "deployment" / "nginx.conf"
_NAMES = ("nginx", "/usr/sbin/nginx")


@contextmanager
def nginx(directory: Path, servers: Mapping[str, str]) -> Iterator[str]:
    """Run an nginx whose files are in a directory, and yield its URL.

    ``servers`` has the address of each server of the example by its name. Skip the test where nginx
    is not installed, but fail in CI.
    """
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        message = "nginx is not installed: apt-get install nginx-light"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    with reserved_port() as port:
        address = f"127.0.0.1:{port}"
        configuration = directory / "nginx.conf"
        configuration.write_text(_MAIN.format(directory=directory, http=_http(servers, address)))
        files = ["-p", str(directory), "-c", str(configuration), "-e", str(directory / "error")]
        process = subprocess.Popen([program, *files], stderr=subprocess.PIPE)
        try:
            _wait_for(address, process)
            yield f"http://{address}"
        finally:
            process.terminate()
            process.communicate(timeout=PATIENCE)


_MAIN = """
daemon off;
pid {directory}/pid;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
{http}
}}
"""


def _http(servers: Mapping[str, str], address: str) -> str:
    """Return the example with these addresses, and without TLS, which needs a certificate."""
    text = EXAMPLE.read_text()
    for name, server in servers.items():
        text, count = re.subn(
            rf"(upstream candlestep_{name} {{ server )[^;]+;", rf"\g<1>{server};", text
        )
        assert count == 1, name
    text, count = re.subn(r"listen 443 ssl;", f"listen {address};", text)
    assert count == 1
    return re.sub(r"^ *ssl_.*$", "", text, flags=re.MULTILINE)


def _wait_for(address: str, process: "subprocess.Popen[bytes]") -> None:
    """Wait until nginx accepts connections; fail if it ends."""
    host, port = address.split(":")
    until = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < until:
        try:
            socket.create_connection((host, int(port)), PATIENCE).close()
        except ConnectionRefusedError:
            time.sleep(0.01)
            continue
        return
    process.kill()
    _, error = process.communicate()
    pytest.fail(f"nginx does not listen: {error.decode()}")
