"""The server behind the edge in its tests, which reports the requests that reached it.

- ``GET /...`` answers with its port, the path and the headers as JSON; ``?seconds=N`` first waits
  and ``?status=N`` is the answer's status; ``?held=1`` makes ``/run/upstream-held`` and waits until
  somebody removes it; with ``Upgrade: websocket`` it echoes one text message
- ``POST /...`` answers with the number of bytes that came
- ``GET /health/ready`` answers 503 while ``/run/upstream-<port>-not-ready`` exists

Usage: upstream.py PORT
"""

import base64
import hashlib
import http.server
import json
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

PORT = int(sys.argv[1])
HELD = Path("/run/upstream-held")
# RFC 6455, 1.3
WEBSOCKET_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Upstream(http.server.BaseHTTPRequestHandler):
    """Handles one connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.headers.get("Upgrade") == "websocket":
            self._echo()
            return
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        time.sleep(float(query.get("seconds", ["0"])[0]))
        if "held" in query:
            HELD.touch()
            while HELD.exists():
                time.sleep(0.1)
        status = int(query.get("status", ["200"])[0])
        if url.path == "/health/ready" and Path(f"/run/upstream-{PORT}-not-ready").exists():
            status = 503
        told = {"port": PORT, "path": self.path, "headers": dict(self.headers)}
        # Long enough to be worth compressing.
        self._answer(status, told | {"padding": "x" * 2000})

    def do_POST(self) -> None:
        taken = 0
        if "Content-Length" in self.headers:
            taken = len(self.rfile.read(int(self.headers["Content-Length"])))
        else:
            while size := int(self.rfile.readline(), 16):
                taken += len(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
        self._answer(200, {"port": PORT, "bytes": taken})

    def log_message(self, *_: object) -> None:
        """Log nothing: the tests look for such lines in the edge's records."""

    def _answer(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _echo(self) -> None:
        key = self.headers["Sec-WebSocket-Key"] + WEBSOCKET_GUID
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        self.send_header("Sec-WebSocket-Accept", accept)
        self.end_headers()
        _, length = self.rfile.read(2)
        mask = self.rfile.read(4)
        masked = self.rfile.read(length & 0x7F)
        text = bytes(byte ^ mask[position % 4] for position, byte in enumerate(masked))
        self.wfile.write(bytes([0x81, len(text)]) + text)
        self.close_connection = True


http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Upstream).serve_forever()
