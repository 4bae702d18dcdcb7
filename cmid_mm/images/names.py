# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Names of images: of files of this machine, or of what GDAL reaches elsewhere."""

import os
import re
from functools import lru_cache
from pathlib import Path

#: GDAL's prefixes for files of a network, by the scheme of an address.
_PREFIXES = {
    'http': '/vsicurl/http://',
    'https': '/vsicurl/https://',
    'ftp': '/vsicurl/ftp://',
    's3': '/vsis3/',
    'gs': '/vsigs/',
    'az': '/vsiaz/',
    'oss': '/vsioss/',
}
_ADDRESS = re.compile(r'([A-Za-z][A-Za-z0-9+.-]+):/+')
#: Where a path has made one of the two slashes of an address.
_ONE_SLASH = re.compile(r'((?:^|[/+])(?:https?|ftp|s3|gs|az|oss|zip|tar|file)):/(?!/)')
_NETWORK = re.compile(
    r'(?:^|[>+/])(?:https?|ftp|s3|gs|az|oss):/'
    r'|/vsi(?:curl|s3|gs|az|adls|oss|swift|webhdfs|hdfs)(?:_streaming)?/'
)


def is_local(name: str | os.PathLike[str]) -> bool:
    """Whether a name is a path of this machine, whose existence can be tested.

    Addresses (``https://...``, ``s3://...``) and names that GDAL alone knows
    (``/vsicurl/...``, ``/vsizip/...``) are none.
    """
    text = os.fspath(name)
    return not (_ADDRESS.match(text) or re.match(r'/vsi\w+/', text))


@lru_cache(maxsize=1024)  # asked at each reading, and VRTs are long
def is_network(name: str | os.PathLike[str]) -> bool:
    """Whether reading it needs a network, which may fail for a moment.

    Args:
        name: A name, or the text of a VRT, which names its parts.
    """
    return bool(_NETWORK.search(os.fspath(name)))


def is_missing(name: str | os.PathLike[str]) -> bool:
    """Whether it is known not to exist; of what is elsewhere, only reading tells."""
    return is_local(name) and not os.path.exists(name)


def beside(folder: str | os.PathLike[str], name: str) -> str:
    """A name that is relative to a folder, unless it stands by itself."""
    return os.path.join(folder, name) if is_local(name) else name


def gdal_name(name: str | os.PathLike[str]) -> str:
    """What GDAL calls it: of addresses its own prefix, of paths the path."""
    text = _ONE_SLASH.sub(r'\1://', os.fspath(name))
    address = _ADDRESS.match(text)
    prefix = _PREFIXES.get(address[1].lower()) if address else None
    return prefix + text[address.end() :] if prefix and address else text


class _Elsewhere(type(Path())):  # type: ignore[misc]
    """A name that is no path of this machine, with the parts that a path has.

    As text it is what was given: a path would make ``https:/`` of ``https://``.
    """

    _given: str | None = None

    def __new__(cls, *parts: str | os.PathLike[str]) -> '_Elsewhere':
        name = super().__new__(cls, *parts)
        if len(parts) == 1:
            name._given = _ONE_SLASH.sub(r'\1://', os.fspath(parts[0]))
        return name

    def __str__(self) -> str:
        return self._given or _ONE_SLASH.sub(r'\1://', super().__str__())


def image_path(name: str | os.PathLike[str]) -> Path:
    """The name of an image, which has a stem and a folder like a path.

    Its text is what was given, also if it is an address.
    """
    return Path(name) if is_local(name) else _Elsewhere(name)
