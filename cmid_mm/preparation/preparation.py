# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""From a download to the folders that a config reads: what all data sets share."""

import dataclasses
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ..images import UnreadableImageError, find_images, is_image_name, read_header
from ..restartable import Job, RestartableFolder, run_jobs
from .errors import PreparationError


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
        return f'{len(find_images(destination))} images'

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
        run_jobs(jobs, workers)
    except BaseException:
        folder.abandon()
        raise
    _check_images([path for job in jobs for path in job.outputs])
    summary = preparation.check(destination)
    folder.finish()
    return f'{destination}: {summary}'


def _check_images(paths: Sequence[Path]) -> None:
    """Check that outputs exist, and that images say their size."""
    for path in paths:
        if not path.exists() or os.path.getsize(path) == 0:
            raise PreparationError(f'{path} was not written; run the command again')
        if is_image_name(path):
            try:
                read_header(path)
            except UnreadableImageError as error:
                raise PreparationError(f'{error}; remove it, run again') from None
