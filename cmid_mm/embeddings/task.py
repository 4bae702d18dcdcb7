# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Embedding of images and windows, by the machinery of prediction."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from numpy.typing import NDArray

from ..images import NoValidPixelError, Window
from ..inference.booking import no_data
from ..inference.findings import Findings, FindingTask
from ..inference.images import AnyImage, InputImage
from ..inference.task import Sample
from ..inference.unfinished import Unfinished
from ..inference.windows import WindowGrid
from .encoder import LoadedEncoder
from .tables import About, ending_of, write_table

#: Side of windows in pixels unless another is asked for.
WINDOW = 256
_ROWS = '.npz'


@dataclass(frozen=True)
class EmbeddingResult:
    """The vectors of one image.

    Attributes:
        image: The image.
        windows: Top, left, height and width of each window in pixels, (N, 4).
        vectors: float32 (N, D).
        valid: Share of each window that holds data, (N,).
    """

    image: InputImage
    windows: NDArray[np.int64]
    vectors: NDArray[np.float32]
    valid: NDArray[np.float32]


class Embedding(FindingTask):
    """Embedding with one encoder: the windows, batches and files of a prediction.

    Args:
        loaded: The encoder and how it reads images.
        min_valid: Windows of which a smaller share holds data have no vector; those
            without any have none in any case. Defaults to 0.
    """

    name = 'embedding'

    def __init__(self, loaded: LoadedEncoder, min_valid: float = 0.0) -> None:
        loader = dict(type='LoadImagery', **asdict(loaded.reading))
        pipeline = [loader, dict(type='PackInputs')]
        cfg = Config(
            dict(
                default_scope='mmpretrain',
                model=dict(),
                test_dataloader=dict(dataset=dict(pipeline=pipeline)),
            )
        )
        super().__init__(cfg, loaded.encoder, {})
        self.digest = loaded.digest
        self.reading = loaded.reading
        self.min_valid = min_valid

    def default_window(self, pipeline: Sequence[dict[str, Any]]) -> int:
        """The same for all models."""
        return WINDOW

    def check_window(self, window: int | None, overlap: int | None) -> tuple[int, int]:
        """Windows do not overlap unless they shall."""
        return super().check_window(window, overlap or 0)

    def sample(self, image: AnyImage, window: Window | None = None) -> Sample:
        """What the encoder takes; also which pixels hold data."""
        sample = super().sample(image, window)
        missing = sample.missing
        share = 1.0 if missing is None else 1 - float(missing.mean())
        if share < self.min_valid or not share:
            raise NoValidPixelError(
                f'{image.path}: {share:.0%} of {_named(window)} hold data, fewer than '
                f'min_valid={self.min_valid:g}'
            )
        sample.data.update(missing=missing, valid=share)
        return sample

    # -- Results -------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """What vectors depend on beside the encoder."""
        return {'min_valid': self.min_valid}

    def result(
        self, image: AnyImage, prediction: Any, missing: NDArray[np.bool_] | None
    ) -> EmbeddingResult:
        """The vector of an image."""
        whole = 0, 0, image.height, image.width
        return self._result(image, self.found(whole, prediction))

    def found(self, window: Window, prediction: Any) -> Findings:
        """The vector of a window."""
        return {
            'window': np.array([window], np.int64),
            'vector': prediction['vector'][None],
            'valid': np.array([prediction['valid']], np.float32),
        }

    def merged(
        self, image: AnyImage, grid: WindowGrid, findings: Findings
    ) -> EmbeddingResult:
        """The vectors of all windows."""
        return self._result(image, findings)

    def _result(self, image: AnyImage, findings: Findings) -> EmbeddingResult:
        assert isinstance(image, InputImage)
        names = ('window', 'vector', 'valid')
        return EmbeddingResult(image, *(findings[name] for name in names))

    # -- Files ---------------------------------------------------------------------

    def save(self, result: EmbeddingResult, folder: Path, name: str) -> list[Path]:
        """Write ``name.parquet``, or ``name.npz`` of an image without a place."""
        path = folder / f'{name}{ending_of(result.image.place)}'
        findings: Findings = dict(
            window=result.windows, vector=result.vectors, valid=result.valid
        )
        write_table(path, iter([findings]), self._about(result.image))
        return [path]

    def write_strips(
        self,
        image: AnyImage,
        grid: WindowGrid,
        strips: range,
        batch_size: int,
        to: Unfinished,
    ) -> None:
        """Write what some rows of windows show, if what is made of it can be."""
        ending_of(image.place)
        super().write_strips(image, grid, strips, batch_size, to)

    def join_strips(
        self, image: AnyImage, grid: WindowGrid, to: Unfinished
    ) -> tuple[list[Path], Any]:
        """Write what :meth:`save` does, one row of windows in memory at a time."""
        if not to.holds_data(grid.strips):
            to.remove()
            raise no_data(image)
        ending = ending_of(image.place)
        write_table(to.result(ending), self._stored(grid, to), self._about(image))
        return to.finish([ending]), None

    def saved_files(self, folder: Path, name: str) -> list[Path]:
        """The file of a result that is complete; none if it is not."""
        files = [folder / f'{name}{ending}' for ending in ('.parquet', '.npz')]
        return [file for file in files if file.exists()][:1]

    def _stored(self, grid: WindowGrid, to: Unfinished) -> Iterator[Findings]:
        for row in grid.strips:
            with np.load(to.part(row, _ROWS)) as stored:
                if stored.files:
                    yield dict(stored)

    def _about(self, image: AnyImage) -> About:
        assert isinstance(image, InputImage)
        bands = self.reading.bands or range(1, self.reading.num_bands + 1)
        return About(
            str(image.path), image.place, ','.join(map(str, bands)), self.digest
        )


def _named(window: Window | None) -> str:
    return 'the image' if window is None else f'window {window}'
