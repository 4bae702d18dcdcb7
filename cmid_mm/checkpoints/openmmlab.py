# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""How OpenMMLab opens checkpoints: by the reader of this package, wherever they are.

Runners, ``Pretrained`` initialisers, inferencers and ``init_model`` of all OpenMMLab
packages open checkpoints by mmengine's ``CheckpointLoader``, which has a loader for
each kind of address. Those of mmengine unpickle what they find: the one for
``http(s)://`` at once, the others where PyTorch would refuse to. Those registered here
fetch the file as mmengine does, and read it as data.
"""

import contextlib
import functools
import http.client
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlparse

import torch
from mmengine.dist import barrier, get_rank
from mmengine.fileio import get_file_backend
from mmengine.infer import BaseInferencer
from mmengine.runner import (
    CheckpointLoader,
    get_deprecated_model_names,
    get_external_models,
    get_mmcls_models,
    get_torchvision_models,
)
from torch.hub import download_url_to_file

from .reading import CheckpointError, read_content


class _Fetched(NamedTuple):
    """A file that was fetched, and how messages call it."""

    path: Path
    name: str


def register_loaders(read: dict[str, dict[str, Any]] | None = None) -> None:
    """Let mmengine read checkpoints only without running code from them.

    Importing the package does so. Loaders that other packages have registered for
    addresses of their own stay.

    Args:
        read: Checkpoints that have been read already, by path. Each is taken out
            and given to mmengine in place of the file.
    """
    register = functools.partial(CheckpointLoader.register_scheme, force=True)
    register('', _loader('local', _local, read))
    register(['http://', 'https://'], _loader('http', _download))
    register([r'(\S+\:)?s3://', r'(\S+\:)?petrel://'], _loader('ceph', _from_backend))
    register(['modelzoo://', 'torchvision://'], _loader('torchvision', _torchvision))
    register(['open-mmlab://', 'openmmlab://'], _loader('openmmlab', _openmmlab))
    register('mmcls://', _load_from_mmcls)
    register('pavi://', _loader('pavi', _refuse))


def _loader(
    kind: str,
    fetch: Callable[[str], AbstractContextManager[_Fetched]],
    read: dict[str, dict[str, Any]] | None = None,
) -> Callable[..., Any]:
    def load(filename: str, map_location: Any = None) -> dict[str, Any]:
        if read and filename in read:
            return without_source(read.pop(filename))
        with fetch(filename) as fetched:
            try:
                return without_source(_read(fetched.path, map_location))
            except CheckpointError as error:
                message = str(error).replace(str(fetched.path), fetched.name)
                raise CheckpointError(message) from error

    load.__name__ = f'load_from_{kind}'  # mmengine logs what follows the prefix
    return load


def _read(path: Path, map_location: Any) -> dict[str, Any]:
    inert = read_content(path, map_location)
    # The state of a run is used as a whole; elsewhere, only weights are.
    if inert.left and 'message_hub' in inert.content:
        inert = read_content(path, map_location, skip_objects=False)
    return inert.content


def without_source(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint without the config that mmengine would run when it resumes.

    Runs of mmcv 1.x wrote it under this name; all that mmengine wants of it is the
    number of GPUs. Its own runs write it under another, which it does not run.

    Args:
        checkpoint: What a file held; it is not changed.
    """
    meta = checkpoint.get('meta')
    if not isinstance(meta, dict) or 'config' not in meta:
        return checkpoint
    return {
        **checkpoint,
        'meta': {key: value for key, value in meta.items() if key != 'config'},
    }


@contextlib.contextmanager
def _local(filename: str) -> Iterator[_Fetched]:
    path = Path(filename).expanduser()
    yield _Fetched(path, str(path))


@contextlib.contextmanager
def _download(url: str) -> Iterator[_Fetched]:
    """The file in PyTorch's cache, where mmengine keeps it too."""
    name = os.path.basename(urlparse(url).path)
    if not name:
        raise CheckpointError(f'{url} names no file; give the address of a checkpoint')
    path = Path(torch.hub.get_dir(), 'checkpoints', name)

    def download() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            return
        try:
            download_url_to_file(url, str(path), progress=os.isatty(0))
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise CheckpointError(f'{url} cannot be downloaded: {error}') from error

    try:
        if get_rank() == 0:
            download()
    finally:
        barrier()
    download()  # on machines that do not share the folder
    yield _Fetched(path, f'{url} (kept as {path})')


@contextlib.contextmanager
def _from_backend(uri: str) -> Iterator[_Fetched]:
    content = get_file_backend(uri).get(uri)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, os.path.basename(uri) or 'checkpoint')
        path.write_bytes(content)
        yield _Fetched(path, uri)


def _torchvision(filename: str) -> AbstractContextManager[_Fetched]:
    return _download(_look_up(filename, get_torchvision_models()))


def _openmmlab(filename: str) -> AbstractContextManager[_Fetched]:
    scheme, _, name = filename.partition('://')
    name = get_deprecated_model_names().get(name, name)
    place = _look_up(f'{scheme}://{name}', get_external_models())
    if place.startswith(('http://', 'https://')):
        return _download(place)
    cache = os.environ.get('XDG_CACHE_HOME', '~/.cache')
    home = os.environ.get('MMENGINE_HOME', os.path.join(cache, 'mmengine'))
    return _local(os.path.join(home, place))


def _look_up(filename: str, addresses: dict[str, str]) -> str:
    name = filename.partition('://')[2]
    if name not in addresses:
        raise CheckpointError(f'{filename}: mmengine knows no model of that name')
    return addresses[name]


def _mmcls(filename: str) -> AbstractContextManager[_Fetched]:
    return _download(_look_up(filename, get_mmcls_models()))


def _load_from_mmcls(filename: str, map_location: Any = None) -> dict[str, Any]:
    """The backbone alone, as mmengine gives it."""
    checkpoint = _loader('mmcls', _mmcls)(filename, map_location)
    state = checkpoint.get('state_dict', checkpoint)
    prefix = 'backbone.'
    return dict(
        state_dict={
            name.removeprefix(prefix): value
            for name, value in state.items()
            if name.startswith(prefix)
        }
    )


def _refuse(filename: str) -> AbstractContextManager[_Fetched]:
    raise CheckpointError(
        f'{filename}: this service is not read; download the file and give its path'
    )


# An inferencer that is given weights alone takes its config from them, which is Python
# source that it runs. No registry leads there, so the method is wrapped.
_original_init_model = BaseInferencer._init_model


@functools.wraps(_original_init_model)
def _init_model(
    self: Any, cfg: Any, weights: str | None, device: str = 'cpu'
) -> torch.nn.Module:
    if not cfg:
        raise CheckpointError(
            f'{weights}: the config in a checkpoint is code, which is not run; give '
            f'that of the run beside the weights: {type(self).__name__}(model=CONFIG, '
            'weights=...)'
        )
    return _original_init_model(self, cfg, weights, device)


BaseInferencer._init_model = _init_model

register_loaders()
