# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Files and folders that are given for checkpoints and are none."""

import tarfile
import zipfile
from contextlib import suppress
from pathlib import Path

#: The bytes by which PyTorch knows its archives.
_ENTRY = b'PK\x03\x04'
#: How much more an archive may hold than it takes; torch.save does not compress.
_RATIO = 100


def what_is_there(path: Path) -> str:
    """What is at a path where no file is."""
    if not path.is_dir():
        return 'does not exist'
    if any(path.glob('*.distcp')) or any(path.glob('**/*_model_states.pt')):
        return (
            'is a folder of sharded weights, as FSDP and DeepSpeed write them, which '
            'is not read; gather them into one file where they were made'
        )
    return 'is a folder'


def foreign_kind(path: Path, start: bytes) -> str | None:
    """What a file is that cannot be a checkpoint, and what to do.

    Args:
        path: The file.
        start: Its first bytes.

    Returns:
        None if it may be one.
    """
    if start.startswith(b'version https://git-lfs'):
        return (
            'is no checkpoint but the Git LFS pointer to one; fetch the file itself: '
            'git lfs pull'
        )
    if start.lstrip(b'\xef\xbb\xbf \t\r\n').lower().startswith((b'<!doc', b'<html')):
        return (
            'is no checkpoint but a web page (HTML), such as one that asks to log in '
            'or says that the file is gone; download the file itself'
        )
    # PyTorch's first format: versions before 2.6 unpickle it with weights_only too,
    # whatever comes after it in the file.
    if not start.startswith(_ENTRY) and tarfile.is_tarfile(path):
        return (
            'is a tar archive, expected a file of torch.save; save its state dict '
            'where it was made, by PyTorch 0.4 or later'
        )
    if start.startswith(b'PK'):
        with suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
            return _foreign_archive(archive, path.stat().st_size)
    return None


def _foreign_archive(archive: zipfile.ZipFile, size: int) -> str | None:
    if any(name.split('/')[1:] == ['constants.pkl'] for name in archive.namelist()):
        return (
            'holds a TorchScript program of torch.jit.save, expected a file of '
            'torch.save; save its state dict: '
            'torch.save(torch.jit.load(...).state_dict(), ...)'
        )
    unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > _RATIO * size:
        return (
            f'was refused: its {size} bytes would unpack to {unpacked}; torch.save '
            'writes archives that are not compressed'
        )
    return None
