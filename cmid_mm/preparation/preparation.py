# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""From a download to the folders that a config reads: what all data sets share."""

import dataclasses
import json
import os
import shutil
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import cv2
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from ..files import link_or_copy, part_file, write_bytes
from ..images import IMAGE_EXTENSIONS, UnreadableImageError, read_header

#: Says in a finished folder what it was made from.
RECORD = 'prepared.json'
#: Says the same in a folder that is not finished.
_UNFINISHED = '.preparing.json'


class PreparationError(ValueError):
    """A download that is not as expected, or an output that is not complete."""


@dataclass(frozen=True)
class SourceFile:
    """A file of a download, lying in a folder or inside a zip archive.

    Args:
        name (str): Its path below the download, with ``/``; of a file in an archive
            its path in the archive.
        path (Path): The file, or the archive that holds it.
        member (str | None): Name in the archive. Defaults to None, no archive.
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
        return f'/vsizip/{self.path.resolve()}/{self.member}'

    def read(self) -> bytes:
        """The content."""
        if self.member is None:
            return self.path.read_bytes()
        with zipfile.ZipFile(self.path) as archive:
            return archive.read(self.member)

    def save(self, path: Path) -> None:
        """Put the content at ``path``: linked where possible, else copied."""
        if self.member is None:
            link_or_copy(self.path, path)
            return
        part = part_file(path)
        with (
            zipfile.ZipFile(self.path) as archive,
            archive.open(self.member) as member,
            open(part, 'wb') as file,
        ):
            shutil.copyfileobj(member, file)
        part.replace(path)


def source_files(source: Path) -> list[SourceFile]:
    """All files of a download, those in its zip archives included.

    Args:
        source (Path): A folder, searched at any depth, or one zip archive. Archives
            in archives are not opened.

    Returns:
        list[SourceFile]: Sorted by name.

    Raises:
        FileNotFoundError: If ``source`` does not exist.
        PreparationError: If an archive is damaged.
    """
    if not source.exists():
        raise FileNotFoundError(f'{source} does not exist; give the folder or zip file')
    paths = [source] if source.is_file() else sorted(source.rglob('*'))
    files: list[SourceFile] = []
    for path in paths:
        if path.suffix.lower() == '.zip':
            files += _members(path)
        elif path.is_file():
            files.append(SourceFile(path.relative_to(source).as_posix(), path))
    return sorted(files, key=lambda file: file.name)


def _members(path: Path) -> Iterator[SourceFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise PreparationError(
            f'{path}: not a complete zip archive ({error}); download it again'
        ) from None
    for name in names:
        if not name.endswith('/') and not name.startswith('__MACOSX/'):
            yield SourceFile(name, path, name)


@dataclass(frozen=True)
class Job:
    """A piece of the work that is done completely or not at all.

    Args:
        outputs (tuple[Path, ...]): The files that it writes, each atomically (see
            :mod:`cmid_mm.files`); they say whether it was done.
        write (Callable[[], None]): Writes them. It goes to other processes: a
            ``functools.partial`` of a function of the module.
    """

    outputs: tuple[Path, ...]
    write: Callable[[], None]

    def is_done(self) -> bool:
        """Whether all outputs exist."""
        return all(path.exists() for path in self.outputs)


@dataclass
class Preparation(ABC):
    """How one public data set becomes the folders that its configs read.

    A data set subclasses this as a dataclass. Its fields are the options of the
    command, each with a default and ``metadata=dict(help=...)``.
    """

    #: Name on the command line, and ``prepared_by`` of the configs.
    name: ClassVar[str]
    #: The data set's own name.
    title: ClassVar[str]
    #: Where to download it.
    url: ClassVar[str]
    #: Terms of use, in a few words.
    licence: ClassVar[str]
    #: The files to download, and how they lie in SRC; some lines of text.
    expects: ClassVar[str]
    #: Folder where the configs look for the result.
    folder: ClassVar[str]

    @abstractmethod
    def jobs(self, source: Path, destination: Path) -> list[Job]:
        """Check the download and plan the work.

        Args:
            source (Path): The download.
            destination (Path): The folder for the result.

        Returns:
            list[Job]: What to do, in any order.

        Raises:
            PreparationError: If the download is incomplete or not this data set; names
                what is missing.
        """

    def check(self, destination: Path) -> str:
        """Check the result beyond the existence and size of its images.

        Args:
            destination (Path): The folder with the result.

        Returns:
            str: What is there, in one line.

        Raises:
            PreparationError: If it is not as the configs need it.
        """
        count = sum(
            path.suffix.lower() in IMAGE_EXTENSIONS for path in destination.rglob('*')
        )
        return f'{count} images'

    def missing(self, what: str) -> PreparationError:
        """The error for a download that lacks something."""
        return PreparationError(
            f'{what}. {self.title} is expected as it is downloaded from {self.url}:\n'
            f'{self.expects}'
        )


def prepare(
    preparation: Preparation, source: Path, destination: Path, workers: int = 1
) -> str:
    """Prepare a data set, or go on where an earlier attempt stopped.

    Args:
        preparation (Preparation): The data set with its options.
        source (Path): The download: a folder or a zip archive.
        destination (Path): The folder for the result; new, empty, or left behind by
            an interrupted run with the same options.
        workers (int): Number of processes. Defaults to 1.

    Returns:
        str: What was made, in one line.

    Raises:
        FileNotFoundError: If the source does not exist.
        PreparationError: If the download is not as expected, the destination holds
            something else, or the result is incomplete.
    """
    settings = {'dataset': preparation.name, **dataclasses.asdict(preparation)}
    record, unfinished = destination / RECORD, destination / _UNFINISHED
    finished = _settings(record)
    if finished is not None:
        _require_same(finished, settings, destination)
        return f'{destination} is complete: {preparation.check(destination)}'
    _open(destination, unfinished, settings)
    try:
        jobs = preparation.jobs(source, destination)
    except (PreparationError, OSError):
        _remove_if_nothing_else(destination, unfinished)
        raise
    _run([job for job in jobs if not job.is_done()], len(jobs), workers)
    _check_images([path for job in jobs for path in job.outputs])
    summary = preparation.check(destination)
    write_bytes(record, json.dumps(settings, indent=2).encode() + b'\n')
    unfinished.unlink()
    return f'{destination}: {summary}'


def _settings(file: Path) -> dict | None:
    return json.loads(file.read_text()) if file.exists() else None


def _require_same(found: dict, settings: dict, destination: Path) -> None:
    if found != json.loads(json.dumps(settings)):
        raise PreparationError(
            f'{destination} was made with {found}, not with {settings}; give another '
            'folder, or remove it first'
        )


def _open(destination: Path, unfinished: Path, settings: dict) -> None:
    begun = _settings(unfinished)
    if begun is not None:
        _require_same(begun, settings, destination)
    elif destination.exists() and any(destination.iterdir()):
        raise PreparationError(
            f'{destination} is not empty and was not made by this tool; give a new '
            'folder'
        )
    else:
        write_bytes(unfinished, json.dumps(settings).encode())


def _remove_if_nothing_else(destination: Path, unfinished: Path) -> None:
    if list(destination.iterdir()) == [unfinished]:
        unfinished.unlink()
        destination.rmdir()


def _run(jobs: Sequence[Job], total: int, workers: int) -> None:
    progress = Progress(
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    task = progress.add_task('preparing', total=total, completed=total - len(jobs))
    if workers == 1:
        with progress:
            for job in jobs:
                job.write()
                progress.advance(task)
        return
    with ProcessPoolExecutor(
        workers, initializer=cv2.setNumThreads, initargs=(1,)
    ) as pool:
        # Before the bar starts its thread: processes must not fork beside one.
        futures = [pool.submit(job.write) for job in jobs]
        with progress:
            try:
                for future in as_completed(futures):
                    future.result()
                    progress.advance(task)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def _check_images(paths: Sequence[Path]) -> None:
    """Check that outputs exist, and that images say their size."""
    for path in paths:
        if not path.exists() or os.path.getsize(path) == 0:
            raise PreparationError(f'{path} was not written; run the command again')
        if path.suffix.lower() in IMAGE_EXTENSIONS:
            try:
                read_header(path)
            except UnreadableImageError as error:
                raise PreparationError(f'{error}; remove it, run again') from None
