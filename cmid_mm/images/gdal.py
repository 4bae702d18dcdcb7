# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""GDAL's settings, and patience with what it reads over a network."""

import ctypes
import os
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import rasterio
import rasterio._base
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from torch.utils.data import get_worker_info

from .errors import UnreadableImageError
from .names import is_network

Result = TypeVar('Result')

#: Settings that variables of the environment of the same names replace.
_DEFAULTS = {
    # So often it is tried again, by GDAL and here, each time twice as long after.
    'GDAL_HTTP_MAX_RETRY': '4',
    'GDAL_HTTP_RETRY_DELAY': '0.5',
    'GDAL_HTTP_CONNECTTIMEOUT': '10',
    # A server that sends nothing for so many seconds has gone away.
    'GDAL_HTTP_LOW_SPEED_TIME': '30',
    'GDAL_HTTP_LOW_SPEED_LIMIT': '1',
}
#: What a server answers that will not change: not found, forbidden, ...
_FINAL = re.compile(r'HTTP response code: 4(?!08|29)')

_network_used = False


#: Of each thread: whether the settings hold for good.
_kept = threading.local()


@contextmanager
def gdal_settings() -> Iterator[None]:
    """GDAL's settings for opening and reading; it warns of no missing place.

    In the workers of a data loader they are kept.
    """
    if get_worker_info() is not None:
        keep_settings()
    if hasattr(_kept, 'stack'):
        yield
        return
    with _settings():
        yield


def keep_settings() -> None:
    """Keep GDAL's settings in this thread, as is done in those that only load images.

    To set them and take them back takes about as long as to read a small window.
    """
    if not hasattr(_kept, 'stack'):
        stack = ExitStack()
        stack.enter_context(_settings())
        _kept.stack = stack


@contextmanager
def _settings() -> Iterator[None]:
    options = {
        name: value for name, value in _DEFAULTS.items() if name not in os.environ
    }
    with (
        rasterio.Env(
            # Otherwise GDAL lists the folder, which may hold a million files, each
            # time.
            GDAL_DISABLE_READDIR_ON_OPEN='TRUE',
            # A VRT may hold code, which is not run, whatever the environment says.
            GDAL_VRT_ENABLE_PYTHON='NO',
            **options,
        ),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter('ignore', NotGeoreferencedWarning)
        yield


def persistently(
    name: str,
    attempt: Callable[[], Result],
    renew: Callable[[], object] = lambda: None,
) -> Result:
    """Do what may fail for a moment, because a network does, several times.

    GDAL itself tries a request again after some errors of a server, but neither
    where a connection is refused, nor one that breaks off at its first answer.

    Args:
        name: What is read; only over a network it is tried again.
        attempt: Opens or reads, by GDAL.
        renew: Called before each further attempt. Defaults to nothing.

    Returns:
        What the attempt returned.

    Raises:
        RasterioError: If the last one failed.
        OSError: Likewise.
    """
    global _network_used
    retries = 0
    if is_network(name):
        _network_used = True
        retries = int(_setting('GDAL_HTTP_MAX_RETRY'))
    wait = float(_setting('GDAL_HTTP_RETRY_DELAY'))
    for retry in range(retries + 1):
        try:
            with gdal_settings():
                if retry:
                    renew()
                return attempt()
        except (RasterioError, OSError) as error:
            forget_network()
            reason = f'{error} {error.__cause__}'
            if retry == retries or _FINAL.search(reason):
                raise
        time.sleep(wait * 2**retry)
    raise AssertionError  # the last attempt returns or raises


def unreadable(name: str | os.PathLike[str], error: Exception) -> UnreadableImageError:
    """The error for what GDAL says, which mostly begins with the name."""
    reason = str(error.__cause__ or error).removeprefix(f'{name}: ')
    return UnreadableImageError(f'{name}: {reason}')


def _setting(name: str) -> str:
    return os.environ.get(name, _DEFAULTS[name])


def forget_network() -> None:
    """Close GDAL's connections, and forget what it knows of remote files.

    It takes a file that could not be reached once as missing for ever.
    """
    if _network_used:
        # Of the library that rasterio has loaded, which does not offer it.
        ctypes.CDLL(rasterio._base.__file__).VSICurlClearCache()


# A child process would take turns with its parent on one connection.
os.register_at_fork(before=forget_network)
