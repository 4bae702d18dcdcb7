# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Results of large images that are not finished, and how they are gone on with."""

import glob
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import this_process, write_bytes
from ..images.strips import move_raster
from ..restartable import OtherSettingsError

_SETTINGS = 'settings.json'


class Unfinished:
    """What is there of the results of one image: a folder beside them.

    It holds files of each strip of the image (see :class:`WindowGrid`) and, once all
    of them have reached the disk, a mark that the strip is done. So a strip is done
    completely or not at all, whatever stops the work, and the work can be shared.
    It is hidden, named after the results, and goes when they are finished.

    What a process has not finished is in a folder of its own in there. So no two
    write to one file: whoever finds all strips done makes the results, and should two
    do so at once, both make the same.

    Args:
        folder: Folder of the results.
        name: Name of the results, without extension; may have folders.
        settings: Everything that the results depend on, as JSON has it.
        shared: Whether other processes work on the same image. Defaults to False.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        settings: Mapping[str, Any],
        shared: bool = False,
    ) -> None:
        self.target = folder / name
        self.path = self.target.with_name(f'.{self.target.name}.unfinished')
        self._own = self.path / this_process()
        self._settings = json.loads(json.dumps(settings))
        self._shared = shared

    def begin(self) -> str | None:
        """Make the folder, or go on with one that the same settings have begun.

        Returns:
            What to tell: that the work goes on, or why it begins anew. None if
            nothing was done.

        Raises:
            OtherSettingsError: If other settings have begun it and, as it is shared,
                others may be working on it.
        """
        notice = None
        before = self._found_settings()
        if before == self._settings:
            self._own.mkdir(exist_ok=True)
            if self._shared:
                return None  # those that are done may be of the others
            done = len(list(self.path.glob('*.done')))
            if not done:
                return None
            return f'{self.target}: goes on after {done} strips that are done'
        if self.path.exists() and (before or not self._shared):
            changed = ', '.join(
                sorted(
                    key
                    for key in {**before, **self._settings}
                    if before.get(key) != self._settings.get(key)
                )
            )
            if self._shared:
                raise OtherSettingsError(
                    f'{self.target}: was begun with another {changed}; remove '
                    f'{self.path}, or give all shards the same settings'
                )
            shutil.rmtree(self.path)
            notice = f'{self.target}: was begun with another {changed}; begins anew'
        self._own.mkdir(parents=True, exist_ok=True)
        content = json.dumps(self._settings, indent=2) + '\n'
        write_bytes(self.path / _SETTINGS, content.encode(), sync=True)
        return notice

    def _found_settings(self) -> dict[str, Any]:
        try:
            return json.loads((self.path / _SETTINGS).read_text(encoding='utf-8'))
        except (FileNotFoundError, ValueError):  # stopped before it was written
            return {}

    # -- Strips --------------------------------------------------------------------

    def part(self, strip: int, ending: str) -> Path:
        """A file of a strip that is done."""
        return self.path / f'{strip:06}{ending}'

    def draft(self, strip: int, ending: str) -> Path:
        """Where a file of a strip is written."""
        return self._own / f'{strip:06}{ending}'

    def is_done(self, strips: range) -> bool:
        """Whether all of them are, whoever did them."""
        return all(self._mark(strip).exists() for strip in strips)

    def remaining(self, strips: range) -> Iterator[range]:
        """Those that are not done, as runs of neighbours."""
        start = None
        for strip in strips:
            if self._mark(strip).exists():
                if start is not None:
                    yield range(start, strip)
                start = None
            elif start is None:
                start = strip
        if start is not None:
            yield range(start, strips.stop)

    def settle(self, strip: int, endings: Sequence[str], holds_data: bool) -> None:
        """Mark a strip as done, after its files have reached the disk.

        Args:
            strip: Its number.
            endings: Those of its files.
            holds_data: Whether the image does, anywhere in the strip.
        """
        for ending in endings:
            draft = self.draft(strip, ending)
            with draft.open('rb+') as file:
                os.fsync(file.fileno())
            draft.replace(self.part(strip, ending))
        content = json.dumps({'holds_data': holds_data})
        write_bytes(self._mark(strip), content.encode(), sync=True)

    def holds_data(self, strips: range) -> bool:
        """Whether the image does, anywhere in strips that are done."""
        return any(json.loads(self._mark(i).read_text())['holds_data'] for i in strips)

    def _mark(self, strip: int) -> Path:
        return self.part(strip, '.done')

    # -- The end -------------------------------------------------------------------

    def result(self, ending: str) -> Path:
        """Where a result is made before :meth:`finish` gives it its name."""
        return self._own / f'{self.target.name}{ending}'

    def finish(self, endings: Sequence[str]) -> list[Path]:
        """Give the results their names and remove the folder.

        Args:
            endings: Those of the results, the most important one last, whose being
                there says that all are.

        Returns:
            The results.
        """
        for ending in endings:
            move_raster(self.result(ending), self.final(ending))
        self.remove()
        return [self.final(ending) for ending in endings]

    def final(self, ending: str) -> Path:
        """A result under its name."""
        return self.target.with_name(f'{self.target.name}{ending}')

    def give_up(self) -> None:
        """After an error, remove what this process has not finished.

        Strips that are done stay, to go on with. If nothing stays, the folder goes.
        """
        shutil.rmtree(self._own, ignore_errors=True)
        if self._shared or not self.path.exists():
            return
        if [entry.name for entry in self.path.iterdir()] == [_SETTINGS]:
            self.remove()

    def remove(self) -> None:
        """Remove the folder with all in it, and its name at once."""
        self.path.rename(self.path.with_name(f'{self.path.name}.{this_process()}'))
        remove_remains(self.target)


def remove_remains(target: Path) -> None:
    """Remove what is left where a process was killed as it removed its folder.

    Args:
        target: The results, without extension.
    """
    # Whoever has named them so, here or elsewhere, removes them, too.
    for gone in target.parent.glob(f'.{glob.escape(target.name)}.unfinished.*'):
        shutil.rmtree(gone, ignore_errors=True)
