# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Feature rasters: a vector for each position of the feature map of an image."""

import hashlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from torch import Tensor

from ..files import whole_file
from ..images import NoValidPixelError, Window
from ..images.strips import Content, write_raster
from ..inference.booking import no_data
from ..inference.images import AnyImage, InputImage
from ..inference.rasters import Piece, join_pieces, write_pieces
from ..inference.task import Sample
from ..inference.unfinished import Unfinished
from ..inference.windows import Cell, Scored, WindowGrid, blend
from ..models.measuring import measure
from .encoder import LoadedEncoder
from .task import Embedding

#: Windows from which a basis is made, and positions of them.
_WINDOWS, _POSITIONS = 200, 20000
_ENDING = '.tif'
#: Share of values that 8 bits hold without cutting them off.
_HELD = 99.9
#: So many times these is what 16 bits hold.
_ROOM = 8


@dataclass(frozen=True)
class Basis:
    """What feature maps are projected on, one for all images.

    Attributes:
        mean: Subtracted from each vector, (D,).
        components: Directions of greatest variance, (K, D).
        explained: Share of the variance that they hold together.
        largest: Absolute value that 8 bits hold.
    """

    mean: NDArray[np.float32]
    components: NDArray[np.float32]
    explained: float
    largest: float

    @classmethod
    def fit(cls, vectors: NDArray[np.float32], count: int | None) -> 'Basis':
        """The principal components of some vectors.

        Args:
            vectors: (N, D).
            count: Components to keep; None keeps the D channels as they are.

        Raises:
            ValueError: If there are fewer vectors or channels than components.
        """
        width = vectors.shape[1]
        if count is None:
            mean, components = np.zeros(width), np.eye(width)
            explained = 1.0
        else:
            if not 1 <= count <= min(vectors.shape):
                raise ValueError(
                    f'{count} components of {len(vectors)} positions with {width} '
                    'channels; give fewer, or more images'
                )
            found = PCA(count, svd_solver='full').fit(vectors)
            mean, components = found.mean_, found.components_
            explained = float(found.explained_variance_ratio_.sum())
        projected = (vectors - mean) @ components.T
        largest = float(np.percentile(np.abs(projected), _HELD)) or 1.0
        return cls(
            mean.astype(np.float32), components.astype(np.float32), explained, largest
        )

    def write(self, path: Path) -> None:
        """Write it as npz."""
        with whole_file(path) as part, part.open('wb') as file:
            np.savez(file, **vars(self))

    @classmethod
    def read(cls, path: Path) -> 'Basis':
        """Read what :meth:`write` wrote.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is none.
        """
        try:
            with np.load(path) as stored:
                return cls(
                    stored['mean'],
                    stored['components'],
                    float(stored['explained']),
                    float(stored['largest']),
                )
        except FileNotFoundError:
            raise
        except Exception as error:  # of zip, of numpy, of a missing name
            raise ValueError(
                f'{path}: is no basis of cmid-mm embed --dense ({error}); remove it, '
                'or name another'
            ) from error

    @property
    def digest(self) -> str:
        """What tells it from others."""
        digest = hashlib.blake2b(digest_size=16)
        for array in (self.mean, self.components, np.float64(self.largest)):
            digest.update(array.tobytes())
        return digest.hexdigest()

    def project(self, maps: Tensor) -> Tensor:
        """Feature maps (D, h, w) on the components, (K, h, w)."""
        centred = maps - maps.new_tensor(self.mean)[:, None, None]
        return torch.einsum('kd,dhw->khw', maps.new_tensor(self.components), centred)


class DenseEmbedding(Embedding):
    """Feature maps of images of any size, blended where windows overlap.

    A raster has a pixel for each position of the map, ``stride`` pixels of the image
    wide. What of the image does not fill a position at its right and lower edge is
    left out.

    Args:
        loaded: The encoder; has to take windows as they are.
        bits: 16 or 8 of each value, with scale and offset in the raster's tags.
        min_valid: As of :class:`Embedding`.
    """

    name = 'dense embedding'
    #: What is projected on; has to be set before anything is written.
    basis: Basis

    def __init__(
        self, loaded: LoadedEncoder, bits: int = 16, min_valid: float = 0.0
    ) -> None:
        super().__init__(loaded, min_valid)
        if loaded.reading.size is not None:
            raise ValueError('feature rasters are made without size')
        self.bits = bits
        encoder = loaded.encoder
        self.stride = measure(encoder.backbone, stage=encoder.stage).stride

    def check_window(self, window: int | None, overlap: int | None) -> tuple[int, int]:
        """Whole positions; by default windows overlap by a quarter.

        Raises:
            ValueError: If the sides are no multiples of the stride.
        """
        window = self.window if window is None else window
        if overlap is None:
            overlap = window // 4 // self.stride * self.stride
        if window % self.stride or overlap % self.stride:
            raise ValueError(
                f'window={window} and overlap={overlap}: of feature rasters both are '
                f'multiples of {self.stride}, the pixels of a position'
            )
        return super().check_window(window, overlap)

    def open(self, image: Any) -> AnyImage:
        """Open an image and cut it to whole positions."""
        opened = InputImage(image, self.loader, self.area)
        opened.height -= opened.height % self.stride
        opened.width -= opened.width % self.stride
        if not opened.height or not opened.width:
            raise ValueError(
                f'{opened.path}: is smaller than a position, {self.stride} pixels'
            )
        return opened

    def sample(self, image: AnyImage, window: Window | None = None) -> Sample:
        """What the encoder takes of a window, or of all that is whole."""
        return super().sample(image, window or (0, 0, image.height, image.width))

    # -- The basis -----------------------------------------------------------------

    def fit_basis(
        self,
        images: Sequence[str | Path],
        count: int | None,
        window: int | None = None,
        overlap: int | None = None,
    ) -> Basis:
        """Make a basis of windows that are spread evenly over all images.

        Args:
            images: The images; those that cannot be read are left out.
            count: Components; None keeps all channels.
            window: Side of the windows. Defaults to None, as those embedded.
            overlap: Likewise.
        """
        size, shared = self.check_window(window, overlap)
        sampled = _spread(images, _WINDOWS)
        each = max(1, _WINDOWS // len(sampled))
        vectors: list[NDArray[np.float32]] = []
        for path in sampled:
            try:
                image = self.open(path)
            except (OSError, ValueError):
                continue  # who embeds it says what is wrong
            grid = WindowGrid(image.height, image.width, size or 2**31, shared)
            for part in _spread(grid.windows, each):
                try:
                    sample = self.sample(image, part)
                except (OSError, ValueError):  # without data, or broken
                    continue
                (prediction,) = self.forward([sample.data])
                known = ~self._absent(sample.missing, part)
                positions = prediction['map'].cpu().numpy()[:, known].T
                vectors.append(_spread(positions, _POSITIONS // _WINDOWS))
        if not vectors:
            raise NoValidPixelError('no image holds data of which a basis is made')
        return Basis.fit(np.concatenate(vectors), count)

    # -- Results -------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """What rasters depend on beside the encoder."""
        return {**super().settings(), 'basis': self.basis.digest, 'bits': self.bits}

    def content(self) -> Content:
        """What the rasters are."""
        names = [f'feature {n}' for n in range(1, len(self.basis.components) + 1)]
        return Content(
            f'uint{self.bits}',
            names,
            nodata=0,
            scale=self._step,
            overviews='average',
            offset=-self._zero * self._step,
        )

    @property
    def _zero(self) -> int:
        """What stands for 0."""
        return 2 ** (self.bits - 1)

    @property
    def _step(self) -> float:
        """Of two neighbouring values; 16 bits have room for the very largest."""
        held = self.basis.largest * (1 if self.bits == 8 else _ROOM)
        return held / (self._zero - 1)

    def values(self, cell: Cell) -> NDArray[Any]:
        """Features of a cell as they are stored, (K, h, w)."""
        shape = len(self.basis.components), *cell.covered.shape
        features = np.zeros(shape, np.float32) if cell.scores is None else cell.scores
        steps = np.rint(features / self._step) + self._zero
        stored = np.clip(steps, 1, 2 * self._zero - 1)
        return np.where(cell.covered, stored, 0).astype(self.content().dtype)

    def result(
        self, image: AnyImage, prediction: Any, missing: NDArray[np.bool_] | None
    ) -> Any:
        """The raster of an image that is one window."""
        whole = 0, 0, image.height, image.width
        grid = self._positions(WindowGrid(image.height, image.width, max(whole), 0))
        scored = self._scored(whole, prediction, missing)
        (cell,) = blend([scored], grid, grid.strips)
        return DenseResult(image, self.values(cell))

    def large_result(self, image: AnyImage, grid: WindowGrid, batch_size: int) -> Any:
        """The raster of an image in memory."""
        positions = self._positions(grid)
        shape = len(self.basis.components), positions.height, positions.width
        values = np.zeros(shape, self.content().dtype)
        for cell in self._cells(image, grid, grid.strips, batch_size, None):
            top, left, height, width = cell.window
            values[:, top : top + height, left : left + width] = self.values(cell)
        return DenseResult(image, values)

    def save(self, result: Any, folder: Path, name: str) -> list[Path]:
        """Write ``name.tif``, a cloud-optimised GeoTIFF."""
        place = result.image.place
        path = folder / f'{name}{_ENDING}'
        place = None if place is None else place.coarser(self.stride)
        write_raster(path, result.values, self.content(), place)
        return [path]

    def write_strips(
        self,
        image: AnyImage,
        grid: WindowGrid,
        strips: range,
        batch_size: int,
        to: Unfinished,
    ) -> None:
        """Write some strips of the raster."""
        cells = self._cells(image, grid, strips, batch_size, to.path)
        with closing(cells):
            pieces: Iterator[Piece] = (
                (cell.window, [self.values(cell)], bool(cell.covered.any()))
                for cell in cells
            )
            contents = {_ENDING: self.content()}
            write_pieces(pieces, to, self._positions(grid), strips, contents)

    def join_strips(
        self, image: AnyImage, grid: WindowGrid, to: Unfinished
    ) -> tuple[list[Path], Any]:
        """Write what :meth:`save` does."""
        if not to.holds_data(grid.strips):
            to.remove()
            raise no_data(image)
        place = None if image.place is None else image.place.coarser(self.stride)
        join_pieces(to, self._positions(grid), {_ENDING: self.content()}, place)
        return to.finish([_ENDING]), None

    def saved_files(self, folder: Path, name: str) -> list[Path]:
        """The raster if it is there."""
        path = folder / f'{name}{_ENDING}'
        return [path] if path.exists() else []

    def _cells(
        self,
        image: AnyImage,
        grid: WindowGrid,
        strips: range,
        batch_size: int,
        folder: Path | None,
    ) -> Generator[Cell, None, None]:
        predicted = self.predict_windows(image, grid, grid.reaching(strips), batch_size)
        scored = (self._scored(*each) for each in predicted)
        yield from blend(scored, self._positions(grid), strips, folder)

    def _scored(
        self, window: Window, prediction: Any, missing: NDArray[np.bool_] | None
    ) -> Scored:
        absent = None if missing is None else self._absent(missing, window)
        top, left, height, width = (side // self.stride for side in window)
        projected = self.basis.project(prediction['map'])
        return (top, left, height, width), projected, absent

    def _absent(
        self, missing: NDArray[np.bool_] | None, window: Window
    ) -> NDArray[np.bool_]:
        """Positions of which no pixel holds data."""
        height, width = window[2] // self.stride, window[3] // self.stride
        if missing is None:
            return np.zeros((height, width), bool)
        cells = missing.reshape(height, self.stride, width, self.stride)
        absent: NDArray[np.bool_] = np.asarray(cells.all(axis=(1, 3)))
        return absent

    def _positions(self, grid: WindowGrid) -> WindowGrid:
        """The same windows in positions of the map."""
        sides = (grid.height, grid.width, grid.size, grid.overlap)
        height, width, size, overlap = (side // self.stride for side in sides)
        return WindowGrid(height, width, size, overlap)


@dataclass(frozen=True)
class DenseResult:
    """The feature raster of one image.

    Attributes:
        image: The image.
        values: As they are stored, (K, h, w).
    """

    image: Any
    values: NDArray[Any]


def _spread(items: Any, most: int) -> Any:
    """At most so many of the items, at even distances."""
    if len(items) <= most:
        return items
    chosen = np.linspace(0, len(items) - 1, most).round().astype(int)
    return (
        items[chosen] if isinstance(items, np.ndarray) else [items[i] for i in chosen]
    )
