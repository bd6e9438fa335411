"""Shared by the tests of the edge: requests as a visitor sends them, from another machine."""

from __future__ import annotations

import base64
import os
import socket
import ssl
import time
from pathlib import Path

import urllib3

ADDRESS = "10.44.0.14"
# The folder of the certificates and their keys.
CERTIFICATES = "/var/lib/edge/caddy/certificates"


def visit(
    name: str,
    path: str = "/",
    *,
    authorities: Path,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    body: bytes | None = None,
) -> urllib3.BaseHTTPResponse:
    """Ask a site by HTTPS; its certificate must be valid, of its name, and from ``authorities``."""
    with urllib3.HTTPSConnectionPool(
        ADDRESS,
        server_hostname=name,
        assert_hostname=name,
        ca_certs=str(authorities),
        retries=False,
        # A test may hold an answer back while it changes the edge.
        timeout=300,
    ) as pool:
        return pool.request(method, path, body=body, headers={"Host": name} | (headers or {}))


def visit_in_the_clear(name: str, path: str = "/") -> urllib3.BaseHTTPResponse:
    """Ask a site by HTTP; a redirect is not followed."""
    with urllib3.HTTPConnectionPool(ADDRESS, retries=False, timeout=10) as pool:
        return pool.request("GET", path, headers={"Host": name}, redirect=False)


def certificate(name: str, authorities: Path) -> ssl._CertRetDictType:
    """The certificate that a site shows."""
    context = ssl.create_default_context(cafile=authorities)
    with (
        socket.create_connection((ADDRESS, 443), timeout=10) as connection,
        context.wrap_socket(connection, server_hostname=name) as channel,
    ):
        return channel.getpeercert()


def seconds_until_closed(port: int, data: bytes, name: str | None = None) -> float:
    """Send bytes, then one a second, and return when the edge closes the connection; at most 30."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((ADDRESS, port), timeout=10) as plain:
        channel = context.wrap_socket(plain, server_hostname=name) if name else plain
        channel.sendall(data)
        channel.settimeout(1)
        start = time.monotonic()
        while (passed := time.monotonic() - start) < 30:
            try:
                if not channel.recv(65536):
                    break
            except TimeoutError:
                try:
                    channel.sendall(b"x")
                except OSError:
                    break
            except OSError:
                break
        return passed


def echo(name: str, text: str, authorities: Path) -> str:
    """Open a websocket, as Streamlit's pages do, send a text and return the answer."""
    key = base64.b64encode(os.urandom(16)).decode()
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[position % 4] for position, byte in enumerate(text.encode()))
    upgrade = (
        f"GET /_stcore/stream HTTP/1.1\r\nHost: {name}\r\nOrigin: https://{name}\r\n"
        f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {key}\r\n\r\n"
    )
    context = ssl.create_default_context(cafile=authorities)
    with (
        socket.create_connection((ADDRESS, 443), timeout=10) as connection,
        context.wrap_socket(connection, server_hostname=name) as channel,
        channel.makefile("rb") as answer,
    ):
        channel.sendall(upgrade.encode())
        assert answer.readline().split()[1] == b"101"
        while answer.readline().strip():
            pass
        channel.sendall(bytes([0x81, 0x80 | len(masked)]) + mask + masked)
        return answer.read(2 + len(masked))[2:].decode()
