# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""From a download to the folders that a config reads: what all data sets share."""

import dataclasses
import os
import shutil
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ..files import link_or_copy, part_file
from ..images.errors import UnreadableImageError
from ..images.reading import IMAGE_EXTENSIONS, image_size
from ..restartable import Job, RestartableFolder, run_jobs


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
        FileExistsError: If the destination holds something else.
        PreparationError: If the download is not as expected, or the result is
            incomplete.
    """
    settings = {'dataset': preparation.name, **dataclasses.asdict(preparation)}
    folder = RestartableFolder(destination, settings)
    if folder.is_complete():
        return f'{destination} is complete: {preparation.check(destination)}'
    folder.begin()
    try:
        jobs = preparation.jobs(source, destination)
    except (ValueError, OSError):
        folder.abandon()
        raise
    run_jobs(jobs, workers)
    _check_images([path for job in jobs for path in job.outputs])
    summary = preparation.check(destination)
    folder.finish()
    return f'{destination}: {summary}'


def _check_images(paths: Sequence[Path]) -> None:
    """Check that outputs exist, and that images say their size."""
    for path in paths:
        if not path.exists() or os.path.getsize(path) == 0:
            raise PreparationError(f'{path} was not written; run the command again')
        if path.suffix.lower() in IMAGE_EXTENSIONS:
            try:
                image_size(path)
            except UnreadableImageError as error:
                raise PreparationError(f'{error}; remove it, run again') from None
