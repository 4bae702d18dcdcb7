# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Whether the bytes of a checkpoint are those that were written.

``torch.save`` writes a zip archive, which keeps a CRC-32 of each of its entries, and
neither it nor ``torch.load`` ever looks at them. Here they are looked at: a tenth of
the time that writing the file takes, and it needs no file beside it that could be lost
or go with another. Files that :mod:`cmid_mm.sharing` has published, which are no
archives, have their digest in their name.
"""

import re
import zipfile
import zlib
from pathlib import Path

from ..files import sha256_of

#: The name of a published file, with the beginning of its SHA-256. Those of others end
#: in dates, or in digests of something else.
_PUBLISHED = re.compile(r'_(?:timm|mmpretrain|mmdet)-([0-9a-f]{8,64})\.safetensors$')


def other_digest(path: Path) -> str | None:
    """The digest of a published file that has changed since.

    Args:
        path: Any file.

    Returns:
        None if it is as its name says, or if its name says no digest.
    """
    named = _PUBLISHED.search(path.name)
    if named is None:
        return None
    digest = sha256_of(path)
    return None if digest.startswith(named[1]) else digest


def damaged_entry(path: Path, contents: bool = True) -> str | None:
    """Name what has changed in a file since ``torch.save`` wrote it.

    Args:
        path: A zip archive.
        contents: Whether to read the entries, or the archive's directory alone.

    Returns:
        The first entry whose bytes do not fit its checksum, or what is wrong with the
        archive itself. None if all fit, or if the file was written without checksums
        (``torch.serialization.set_crc32_options(False)``).
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if not (contents and any(entry.CRC for entry in archive.infolist())):
                return None
            return archive.testzip()
    # Of a damaged archive Python cannot always say which entry it is.
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        UnicodeDecodeError,
        ValueError,
    ) as error:
        return f'the archive ({error})'
