# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Files that are either complete or not there, and what is no file."""

import contextlib
import errno
import fcntl
import hashlib
import os
import platform
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .being_read import being_read

#: Texts (labels, lists) that are larger are none: they are read whole.
MAX_TEXT_BYTES = 1 << 30
#: What the system says of a disk, a quota or a file system that takes no more.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class NotAFileError(OSError):
    """A pipe, socket or device, or too large, where a file is expected."""


def check_regular(path: str | os.PathLike[str]) -> None:
    """Refuse what is neither file nor folder: a pipe would be waited for.

    Args:
        path: What need not exist.

    Raises:
        NotAFileError: If it is a pipe, a socket or a device; names it.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return  # missing, or no name of a file
    _check_mode(path, mode)


def read_regular(path: str | os.PathLike[str], most: int = MAX_TEXT_BYTES) -> bytes:
    """Read a whole file, and nothing that is none.

    Args:
        path: The file.
        most: Bytes that it may have.

    Raises:
        FileNotFoundError: If it does not exist.
        NotAFileError: If it is no file, or too large.
    """
    with being_read(path), open(path, 'rb', opener=_open_at_once) as file:
        status = os.fstat(file.fileno())
        _check_mode(path, status.st_mode)
        if status.st_size > most:
            raise NotAFileError(
                f'{path}: {status.st_size:,} bytes, more than the {most:,} that are '
                'read at once; divide it, or remove it if it is no such file'
            )
        return file.read()


def sha256_of(path: str | os.PathLike[str]) -> str:
    """The digest of what a file holds, which need not fit into memory.

    Args:
        path: The file.
    """
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting, should it be a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def _check_mode(path: str | os.PathLike[str], mode: int) -> None:
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise NotAFileError(
            f'{path}: not a regular file (a pipe, socket or device); remove it'
        )


def check_writable(path: str | Path, option: str, is_folder: bool = False) -> None:
    """Refuse a place for results before any work is done for them.

    Args:
        path: The file, or the folder of files, to be written. Neither it nor the
            folders above it need exist, and none is made.
        option: What it was given by, for the error.
        is_folder: Whether it is a folder. Defaults to False.

    Raises:
        OSError: If it cannot be written.
    """
    place = Path(path)
    try:
        if place.exists() and place.is_dir() != is_folder:
            fault = 'is a folder, expected a file' if not is_folder else 'is no folder'
        elif place.is_file() and not os.access(place, os.W_OK):
            fault = 'is write-protected'
        else:
            folder = place if is_folder else place.parent
            while not folder.exists():
                folder = folder.parent
            tempfile.TemporaryFile(dir=folder).close()
            return
    except OSError as error:
        fault = f'cannot be written: {error.strerror}'
    raise OSError(f'{option} {path} {fault}; give another place')


def this_process() -> str:
    """A name for this process, other than those of all that may share its files."""
    return f'{platform.node()}-{os.getpid()}'


def part_file(path: Path) -> Path:
    """Where a file is written before it gets its name; makes its folder.

    Args:
        path: The file to be.

    Returns:
        A name beside it that no other process uses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f'{path.name}.{this_process()}.part')


@contextlib.contextmanager
def whole_file(path: Path, sync: bool = False) -> Iterator[Path]:
    """Write a file, and the folders that it needs, so that it is whole or not there.

    What is written inside goes to a file beside it, which takes its name when all went
    well, and is removed when not; one that was there is replaced only then.

    Args:
        path: The file to be.
        sync: Whether the content has to have reached the disk first, and the name
            has to reach it before this returns, so that not even a crash of the
            machine can leave an empty file or none. Defaults to False.

    Yields:
        The file to write.

    Raises:
        OSError: If the disk is full; with the name of the file.
    """
    part = part_file(path)
    try:
        yield part
        if sync:
            send_to_disk(part)
        part.replace(path)
        if sync:
            # Some file systems do not open folders.
            with contextlib.suppress(OSError):
                send_to_disk(path.parent)
    except OSError as error:
        # The system names a file that it cannot open, not one that it cannot fill.
        if error.errno in NO_ROOM and error.filename is None:
            error.filename = str(path)
        raise
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def send_to_disk(path: Path) -> None:
    """Wait until the content of a file, or the names in a folder, are on the disk.

    A file is then read from there again, not from memory, where the system can do so.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        if path.is_file() and hasattr(os, 'posix_fadvise'):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def remove_part_files(folder: Path, pattern: str) -> list[Path]:
    """Remove what processes that were killed have left half-written.

    Args:
        folder: Where; nothing happens if there is none.
        pattern: Names of the whole files.

    Returns:
        What was removed. Those of another process of this machine that still runs
        are left.
    """
    removed = []
    for part in sorted(folder.glob(f'{pattern}.*.part')):
        node, _, process = part.name.removesuffix('.part').rpartition('-')
        is_here = node.endswith(f'.{platform.node()}') and process.isdigit()
        if is_here and int(process) != os.getpid() and _runs(int(process)):
            continue
        with contextlib.suppress(OSError):
            part.unlink()
            removed.append(part)
    return removed


def hold_folder(folder: Path) -> int | None:
    """Make this process the only one that writes its results into a folder.

    It is so until the process ends, in whatever way, or closes what is returned. A
    process may hold a folder several times.

    Args:
        folder: The folder; made if it does not exist.

    Returns:
        A file descriptor; None where the file system knows no locks.

    Raises:
        BlockingIOError: If another process holds the folder; names both.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        # A record lock: NFS knows it, and forked workers do not inherit it.
        lock = os.open(folder / '.held', os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:
        return None  # write-protected, which is for those to say who write
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.truncate(lock, 0)
        os.write(lock, this_process().encode())
    except (BlockingIOError, PermissionError):  # which of them, POSIX leaves open
        holder = os.read(lock, 200).decode(errors='replace')
        os.close(lock)
        raise BlockingIOError(
            f'{folder}: another run, process {holder or "unknown"}, writes here; wait '
            'until it has ended, or give another folder (--work-dir)'
        ) from None
    except OSError:  # no locks here, or no room for the name
        pass
    return lock


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def write_bytes(path: Path, content: bytes, sync: bool = False) -> None:
    """Write a file, and the folders that it needs.

    Args:
        path: The file; one that exists is replaced.
        content: What it shall hold.
        sync: See :func:`whole_file`. Defaults to False.
    """
    with whole_file(path, sync) as part:
        part.write_bytes(content)


def link_or_copy(source: Path, path: Path) -> None:
    """Give a file a second name, or copy it where the file system cannot.

    Args:
        source: The file.
        path: Its new name; one that exists is replaced.
    """
    with whole_file(path) as part:
        try:
            os.link(source.resolve(), part)
        except OSError:  # another file system, or one without links
            shutil.copyfile(source, part)
