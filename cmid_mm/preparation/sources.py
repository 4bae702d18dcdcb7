# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The files of a download, in folders or in zip archives."""

import functools
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..being_read import being_read
from ..files import MAX_TEXT_BYTES, link_or_copy, part_file, read_regular
from ..images import NoValidPixelError, UnreadableImageError
from .errors import PreparationError

#: Files of an archive at most, and how much more than the archive they hold at most;
#: labels of one colour are a hundredth as large when packed.
MAX_MEMBERS, MAX_RATIO = 5_000_000, 500
#: What an archive may hold whatever its own size is.
_SMALL = 1 << 30
#: Bytes of a disk that are left free where archives are unpacked.
KEPT_FREE = 1 << 28


@dataclass(frozen=True)
class SourceFile:
    """A file of a download, lying in a folder or inside a zip archive.

    Args:
        name: Its path below the download, with ``/``; of a file in an archive its path
            in the archive.
        path: The file, or the archive that holds it.
        member: Name in the archive; None, no archive.
    """

    name: str
    path: Path
    member: str | None = None

    def __str__(self) -> str:
        """For messages."""
        return str(self.path) if self.member is None else f'{self.path}!{self.member}'

    @property
    def gdal_path(self) -> str:
        """The name by which rasterio opens it, window by window if need be."""
        if self.member is None:
            return str(self.path)
        # In braces: a path has no place for the two slashes that GDAL wants otherwise.
        return f'/vsizip/{{{self.path.resolve()}}}/{self.member}'

    def read(self) -> bytes:
        """The content."""
        if self.member is None:
            return read_regular(self.path)
        with being_read(str(self)):
            return self._unpacked(self.member)

    def _unpacked(self, member: str) -> bytes:
        archive = _archive(self.path)
        if archive.getinfo(member).file_size > MAX_TEXT_BYTES:
            raise PreparationError(
                f'{self}: {archive.getinfo(member).file_size:,} bytes, more than '
                f'the {MAX_TEXT_BYTES:,} that are read at once'
            )
        return archive.read(member)

    @contextmanager
    def opened(self) -> Iterator[Path]:
        """The content as a file on disk, for a reader that takes a path.

        What is wrong with it is said of this file.

        Raises:
            PreparationError: In place of an error of a reader inside the block.
        """
        if self.member is None:
            with self._named(self.path):
                yield self.path
            return
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch, PurePosixPath(self.name).name)
            with self._named(path):
                self._extract(path)
                yield path

    @contextmanager
    def _named(self, path: Path) -> Iterator[None]:
        try:
            with being_read(str(self)):
                yield
        except NoValidPixelError as error:
            raise PreparationError(self._message(error, path)) from None
        except (UnreadableImageError, zipfile.BadZipFile) as error:
            reason = str(error).removeprefix(f'{path}: ')
            raise PreparationError(
                f'{self}: damaged ({reason}); download it again'
            ) from None
        except PreparationError:
            raise
        except ValueError as error:
            raise PreparationError(self._message(error, path)) from None

    def _message(self, error: Exception, path: Path) -> str:
        """Of a reader that knows the path only."""
        text = str(error).replace(str(path), str(self))
        return text if str(self) in text else f'{self}: {text}'

    def save(
        self, path: Path, check: Callable[[Path], object] = lambda path: None
    ) -> None:
        """Put the content at ``path``, linked where possible; keep what is there.

        Args:
            path: Where.
            check: Reads a file and raises an error of a reader if it is not as it
                should be.

        Raises:
            PreparationError: In place of that error; nothing is left at ``path``.
        """
        if path.exists():
            return
        if self.member is None:
            with self._named(self.path):
                check(self.path)
                link_or_copy(self.path, path)
            return
        part = part_file(path)
        # Readers go by the extension.
        part = part.with_name(f'{part.name}{path.suffix}')
        try:
            with self._named(part):
                self._extract(part)
                check(part)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def _extract(self, path: Path) -> None:
        assert self.member is not None
        archive = _archive(self.path)
        size = archive.getinfo(self.member).file_size  # no more is ever unpacked
        free = shutil.disk_usage(path.parent).free
        if size + KEPT_FREE > free:
            raise PreparationError(
                f'{self}: {size:,} bytes, but {path.parent} has {free:,} left, of '
                f'which {KEPT_FREE:,} are kept free; make room, or give another folder'
            )
        with archive.open(self.member) as member, open(path, 'wb') as file:
            shutil.copyfileobj(member, file)


def _archive(path: Path) -> zipfile.ZipFile:
    """An archive, opened once: reading the directory of a large one takes long."""
    status = path.stat()
    # A process must not share the place in the file with the one it was forked from.
    return _open_archive(path, os.getpid(), status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=8)
def _open_archive(path: Path, *_: int) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


def source_files(source: Path) -> list[SourceFile]:
    """All files of a download, those in its zip archives included.

    Hidden files and folders do not count, nor do ``__MACOSX`` and the ``._name.tif``
    that macOS adds.

    Args:
        source: A folder, searched at any depth, or one zip archive. Archives in
            archives are not opened.

    Returns:
        Sorted by name.

    Raises:
        FileNotFoundError: If ``source`` does not exist.
        PreparationError: If an archive is damaged, encrypted, or made to do harm: its
            files are unpacked under names of our own, but those that lead out of their
            folder, links, devices, and more than the limits above, are refused.
    """
    if not source.exists():
        raise FileNotFoundError(f'{source} does not exist; give the folder or zip file')
    files: list[SourceFile] = []
    for path in [source] if source.is_file() else sorted(source.rglob('*')):
        name = path.relative_to(source).as_posix()
        if _is_hidden(name) or not path.is_file():
            continue
        if path.suffix.lower() == '.zip':
            files += _members(path)
        else:
            files.append(SourceFile(name, path))
    return sorted(files, key=lambda file: file.name)


def _is_hidden(name: str) -> bool:
    return any(
        part.startswith('.') or part == '__MACOSX' for part in PurePosixPath(name).parts
    )


def _members(path: Path) -> Iterator[SourceFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError) as error:
        raise PreparationError(
            f'{path}: not a complete zip archive ({error}); download it again'
        ) from None
    _check_archive(path, members)
    for member in members:
        name = member.filename
        if not member.is_dir() and not _is_hidden(name):
            yield SourceFile(name, path, name)


def _check_archive(path: Path, members: Sequence[zipfile.ZipInfo]) -> None:
    """Refuse an archive that no data set is: one made to do harm, or encrypted."""
    fault = None
    size = sum(member.file_size for member in members)
    most = max(_SMALL, MAX_RATIO * path.stat().st_size)
    if len(members) > MAX_MEMBERS:
        fault = f'{len(members):,} files, more than {MAX_MEMBERS:,}'
    elif size > most:
        fault = (
            f'unpacked it has {size:,} bytes, more than {MAX_RATIO} times its own size'
        )
    for member in members:
        parts = PurePosixPath(member.filename.replace('\\', '/')).parts
        kind = stat.S_IFMT(member.external_attr >> 16)
        if '..' in parts or parts[:1] == ('/',):
            fault = f'the name {member.filename!r} leads out of its folder'
        elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            fault = f'{member.filename!r} is a link or device'
        elif member.flag_bits & 1:
            fault = f'{member.filename!r} is encrypted'
    if fault:
        raise PreparationError(
            f'{path}: {fault}; download it again from the address of the data set, or '
            'unpack it yourself if you trust it, and give the folder'
        )
