# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""A web server of one folder that serves ranges, and fails when it is told to.

A process of its own: rasterio holds the interpreter's lock while GDAL waits.
"""

import contextlib
import json
import re
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Server:
    """A running server, as its test sees it.

    Attributes:
        address: What the names of its files begin with.
    """

    def __init__(self, port: int) -> None:
        self.address = f'http://127.0.0.1:{port}'

    def fail(self, path: str, ways: list[str]) -> None:
        """Let requests for a path that are to come fail, each in one way.

        Args:
            path: Name of a file.
            ways: ``close`` (without an answer), ``cut`` (in the middle of the
                answer), or a status such as ``503``.
        """
        body = json.dumps([f'/{path}', ways]).encode()
        urllib.request.urlopen(f'{self.address}/', body).read()

    def requests(self) -> list[str]:
        """Paths that were asked for since this was called last."""
        return json.loads(urllib.request.urlopen(f'{self.address}/?').read())


@contextlib.contextmanager
def serve(folder: Path, port: int = 0) -> Iterator[Server]:
    """Serve the files of a folder."""
    process = subprocess.Popen(
        [sys.executable, __file__, folder, str(port)], stdout=subprocess.PIPE, text=True
    )
    try:
        yield Server(int(process.stdout.readline()))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    folder = ''
    failures: dict[str, list[str]] = {}
    seen: list[str] = []

    def log_message(self, *args) -> None:
        pass

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers['Content-Length']))
        path, ways = json.loads(content)
        self.failures[path] = ways
        self._answer(200, b'')

    def do_HEAD(self) -> None:
        self._serve(body=False)

    def do_GET(self) -> None:
        if self.path == '/?':
            self._answer(200, json.dumps(self.seen).encode())
            self.seen.clear()
            return
        self._serve(body=True)

    def _serve(self, body: bool) -> None:
        self.seen.append(self.path)
        ways = self.failures.get(self.path)
        way = ways.pop(0) if ways else ''
        if way == 'close':
            self._hang_up()
        elif way.isdigit():
            self._answer(int(way), b'')
        else:
            self._serve_file(body, way == 'cut')

    def _serve_file(self, body: bool, cut: bool) -> None:
        try:
            data = Path(self.folder, self.path[1:]).read_bytes()
        except OSError:
            self._answer(404, b'')
            return
        headers = {'Accept-Ranges': 'bytes'}
        asked = re.match(r'bytes=(\d+)-(\d*)', self.headers.get('Range') or '')
        size = len(data)
        if asked:
            start = int(asked[1])
            data = data[start : int(asked[2] or size) + 1]
            headers['Content-Range'] = f'bytes {start}-{start + len(data) - 1}/{size}'
        half = len(data) // 2 if cut else len(data)
        self._answer(206 if asked else 200, data, headers, half if body else 0)
        if cut:
            self._hang_up()

    def _answer(
        self, status: int, data: bytes, headers: dict | None = None, sent: int = 1 << 40
    ) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), 'Content-Length': len(data)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(data[:sent])

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


if __name__ == '__main__':
    _Handler.folder = sys.argv[1]
    server = ThreadingHTTPServer(('127.0.0.1', int(sys.argv[2])), _Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
