# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The files of a download, in folders or in zip archives."""

import functools
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..files import link_or_copy, part_file
from ..images import NoValidPixelError, UnreadableImageError
from .errors import PreparationError


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
            return self.path.read_bytes()
        return _archive(self.path).read(self.member)

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
        with _archive(self.path).open(self.member) as member, open(path, 'wb') as file:
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
        PreparationError: If an archive is damaged.
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
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise PreparationError(
            f'{path}: not a complete zip archive ({error}); download it again'
        ) from None
    for name in names:
        if not name.endswith('/') and not _is_hidden(name):
            yield SourceFile(name, path, name)
