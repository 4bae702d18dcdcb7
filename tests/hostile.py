# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Checkpoints that run code where they are unpickled, and a server to give them out."""

import os
import pickle
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import nn


class Regression(BaseModel):
    """The smallest model that a runner trains."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, *samples, mode):
        return dict(loss=self.layer(torch.stack(samples)).square().mean())


class Payload:
    """Makes a folder where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def save_hostile(path: Path, marker: Path, form: str = 'zip') -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    content = dict(
        state_dict=Regression().state_dict(),
        meta=dict(epoch=1, iter=1),
        message_hub=dict(log_scalars=Payload(marker)),
    )
    if form == 'pickle':
        path.write_bytes(pickle.dumps(dict(content, state_dict={})))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == 'zip')
    return path


@contextmanager
def serving() -> Iterator[Any]:
    """Serves the file that is set as its ``path``; ``/moved/`` leads to it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path.startswith('/moved/'):
                self.send_response(302)
                self.send_header('Location', self.path.removeprefix('/moved'))
                self.end_headers()
            elif 'absent' in self.path:
                self.send_error(404)
            else:
                content = self.server.path.read_bytes()
                self.send_response(200)
                self.send_header('Content-Length', str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
        server.url = f'http://127.0.0.1:{server.server_port}'
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
