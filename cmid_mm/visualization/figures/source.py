# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What figures are made of: a frozen encoder, images, and the cells of their maps."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.warp import transform
from torch import Tensor, nn

from ...configs import first_reading, load_config
from ...evaluation.dense import DenseEncoder
from ...evaluation.dense.encoder import pad_to_cells
from ...evaluation.frozen_encoder import load_frozen_encoder
from ...images import ImageFile, NoValidPixelError, Place, Reading, Window
from ...images.pixels import missing_pixels
from ...inference.windows import Cell, WindowGrid, blend
from ...overrides import merge_options
from ..drawing import Picture, to_picture

#: Pixels that the maps of all stages divide.
_UNIT = 32
#: Units that neighbouring windows share.
_OVERLAP = 4


@dataclass(frozen=True)
class Seen:
    """An image of a figure.

    Attributes:
        path: Its file.
        picture: RGB at reduced size.
        size: Height and width in pixels.
        place: Where it lies; None if unknown.
    """

    path: Path
    picture: Picture
    size: tuple[int, int]
    place: Place | None

    @property
    def name(self) -> str:
        """Short name for a title."""
        return self.path.stem

    def pixel(self, point: Sequence[float], crs: str | None = None) -> NDArray[Any]:
        """Column and row of a point.

        Args:
            point: x and y in pixels, or in ``crs``: longitude and latitude, easting
                and northing.
            crs: Coordinate system of the point, such as ``'EPSG:4326'``. Defaults to
                None, pixels.

        Raises:
            ValueError: If the point lies outside of the image, the system is unknown,
                or the image has no place.
        """
        found = np.array(point, np.float64)
        if crs is not None:
            if self.place is None or self.place.crs is None:
                raise ValueError(
                    f'{self.path} says nothing of its place; give the point in pixels, '
                    'without a coordinate system (--crs)'
                )
            try:
                system = CRS.from_user_input(crs)
            except CRSError as error:
                raise ValueError(
                    f'unknown coordinate system {crs!r}; expected such as EPSG:4326'
                ) from error
            x, y = transform(system, self.place.crs, *([float(v)] for v in found))[:2]
            found = self.place.pixels(np.array([[x[0], y[0]]]))[0]
        height, width = self.size
        if not (0 <= found[0] < width and 0 <= found[1] < height):
            asked = f'the point ({point[0]:.12g}, {point[1]:.12g})'
            if crs is not None:
                asked += f', pixel ({found[0]:.0f}, {found[1]:.0f})'
            advice = '; coordinates need their system (--crs)' if crs is None else ''
            raise ValueError(
                f'{asked} lies outside of {self.path}, which has {width} x {height} '
                f'pixels{advice}'
            )
        return found


class FigureEncoder:
    """A frozen encoder, and how images are read for it.

    Args:
        model: CMID, or one of mmpretrain's algorithms with a preprocessor of ours.
        reading: How files become its input. Defaults to None: the bands of its
            preprocessor.
        stages: See :class:`~cmid_mm.evaluation.dense.DenseEncoder`.
        show_bands: Three bands to show as red, green and blue, or one, counted from 1
            among those that are read. Defaults to None, the first three.
        window: Side in pixels of the windows in which larger images are encoded.

    Raises:
        TypeError: If the model is neither.
    """

    def __init__(
        self,
        model: nn.Module,
        reading: Reading | None = None,
        stages: Sequence[int] | None = None,
        show_bands: Sequence[int] | None = None,
        window: int = 512,
    ) -> None:
        preprocessor: Any = getattr(model, 'data_preprocessor', None)
        if not hasattr(preprocessor, 'normalize'):
            raise TypeError(
                f'{type(model).__name__} is no pre-training model: figures are made of '
                "CMID and of mmpretrain's self-supervised algorithms with "
                'SelfSupViewPreprocessor; give the config of the pre-training'
            )
        if window < _UNIT:
            raise ValueError(f'window must be at least {_UNIT} pixels, got {window}')
        self.model: Any = model
        model.eval()
        self.reading = reading or Reading(preprocessor.num_bands)
        self.show_bands = show_bands
        self.window = window // _UNIT * _UNIT
        self._encode = DenseEncoder(model, stages)

    @property
    def backbone(self) -> nn.Module:
        """The network that gives the maps."""
        return self._encode.backbone

    @cached_property
    def stride(self) -> float:
        """Pixels per cell."""
        side = 7 * self._encode.cell
        black = torch.zeros(self.reading.num_bands, side, side)
        return side / self._encode(black).shape[1]

    def pad(self, pixels: Tensor) -> Tensor:
        """Images, (B, C, H, W), padded by their edge to what the network takes."""
        return pad_to_cells(pixels, self._encode.cell)

    def open(self, path: str | Path) -> ImageFile:
        """Open an image; its pixels are those of the reading's distance."""
        return ImageFile(path, keep=True, reading=self.reading)

    def see(self, path: str | Path, most: int = 1024) -> Seen:
        """An image for drawing.

        Args:
            path: Its file.
            most: Longest side of the picture in pixels.

        Raises:
            UnreadableImageError: If it cannot be read.
            ValueError: If the bands to show are not there.
        """
        with self.open(path) as image:
            picture = to_picture(image.preview(self.reading, most), self.show_bands)
            shape = (image.height, image.width)
            return Seen(Path(path), picture, shape, image.place)

    def load(self, image: ImageFile, window: Window | None = None) -> Tensor:
        """Pixels of an image or a window, 0-255, (C, H, W)."""
        pixels, _ = image.load(self.reading, window)
        return torch.from_numpy(pixels).permute(2, 0, 1)

    def normalize(self, images: Tensor) -> Tensor:
        """Images that are 0-255, (B, C, H, W), as the network takes them."""
        preprocessor = self.model.data_preprocessor
        return preprocessor.normalize(images.to(preprocessor.mean.device).float())

    def encode(self, pixels: Tensor) -> Tensor:
        """Features of pixels that are 0-255, (C, H, W); see :class:`DenseEncoder`."""
        return self._encode(pixels)

    def around(self, size: Sequence[int], point: NDArray[Any]) -> Window:
        """The window of :meth:`blocks` in whose middle a point is.

        Args:
            size: Height and width of the image.
            point: Column and row.
        """

        def off_centre(window: Window) -> float:
            top, left, height, width = window
            x, y = point[0] - left, point[1] - top
            return max(abs(x / width - 0.5), abs(y / height - 0.5))

        grid = self._grid(size, 1)
        return min((self._pixels(w, 1, size) for w in grid.windows), key=off_centre)

    def centre(self, size: Sequence[int]) -> Window:
        """The window in the middle of an image."""
        height, width = (min(side, self.window) for side in size)
        return (size[0] - height) // 2, (size[1] - width) // 2, height, width

    def blocks(self, path: str | Path) -> Iterator[Cell]:
        """Feature maps of an image, part by part; memory does not grow with the image.

        Large images are encoded in windows that overlap, as predictions are.

        Args:
            path: The image.

        Yields:
            Parts of the map in cells: their window, features (D, h, w), and which
            cells hold data.
        """
        factor = _UNIT / self.stride
        if factor % 1:
            raise ValueError(
                f'{type(self.backbone).__name__} gives cells of {self.stride:g} pixels,'
                f' which do not divide {_UNIT}; figures of whole images need that'
            )
        with self.open(path) as image:
            size = image.height, image.width
            grid = self._grid(size, int(factor))
            yield from blend(self._encoded(image, grid), grid, grid.strips)

    def map_of(self, path: str | Path, most_cells: int) -> Tensor:
        """The whole feature map of an image, (D, h, w); zero where there is no data.

        Args:
            path: The image.
            most_cells: Refuse images with more.

        Raises:
            ValueError: If there are more.
        """
        with self.open(path) as image:
            shape = self.shape(image.header.shape)
        if shape[0] * shape[1] > most_cells:
            raise ValueError(
                f'{path} has {shape[0] * shape[1]} cells of {self.stride:g} pixels; at '
                f'most {most_cells} can be compared. Read it coarser (--gsd), or take '
                'the last stage alone (--stages)'
            )
        features: Tensor | None = None
        for part in self.blocks(path):
            if part.mean is None:
                continue
            if features is None:
                units = [side + -side % self._per_unit for side in shape]
                features = torch.zeros(len(part.mean), *units)
            top, left, height, width = part.window
            rows, columns = slice(top, top + height), slice(left, left + width)
            features[:, rows, columns] = part.mean.cpu()
        if features is None:
            raise NoValidPixelError(f'{path}: no valid pixel in the image')
        return features[:, : shape[0], : shape[1]]

    def shape(self, size: Sequence[int]) -> tuple[int, int]:
        """Rows and columns of the cells that show an image of some size."""
        rows, columns = (int(-(-side // self.stride)) for side in size)
        return rows, columns

    @property
    def _per_unit(self) -> int:
        return int(_UNIT / self.stride)

    def _grid(self, size: Sequence[int], factor: int) -> WindowGrid:
        """Windows in cells, of which ``factor`` are a unit's side."""
        units = self.window // _UNIT
        height, width = (-(-side // _UNIT) * factor for side in size)
        overlap = min(_OVERLAP, units // 2)
        return WindowGrid(height, width, units * factor, overlap * factor)

    def _pixels(self, window: Window, factor: int, size: Sequence[int]) -> Window:
        """The pixels of a window in cells."""
        side = _UNIT // factor
        top, left = window[0] * side, window[1] * side
        height = min(window[2] * side, size[0] - top)
        width = min(window[3] * side, size[1] - left)
        return top, left, height, width

    def _encoded(
        self, image: ImageFile, grid: WindowGrid
    ) -> Iterator[tuple[Window, Tensor, NDArray[np.bool_] | None]]:
        size = image.height, image.width
        factor = self._per_unit
        for window in grid.windows:
            place = self._pixels(window, factor, size)
            try:
                pixels, valid = image.load(self.reading, place)
            except NoValidPixelError:
                continue
            features = self._encode(torch.from_numpy(pixels).permute(2, 0, 1))
            yield window, features, _absent(missing_pixels(valid), window)


def _absent(
    missing: NDArray[np.bool_] | None, window: Window
) -> NDArray[np.bool_] | None:
    """Cells of which more than half holds no data, (h, w)."""
    if missing is None:
        return None
    share = torch.from_numpy(missing)[None, None].float()
    units = [side + -side % _UNIT for side in missing.shape]
    # What is padded holds none either.
    padding = 0, units[1] - missing.shape[1], 0, units[0] - missing.shape[0]
    share = F.pad(share, padding, value=1.0)
    return (F.adaptive_avg_pool2d(share, window[2:])[0, 0] > 0.5).numpy()


def load_figure_encoder(
    config: str | Path,
    checkpoint: str | Path,
    backbone_only: bool = False,
    seed: int = 0,
    options: dict[str, Any] | None = None,
    device: str = 'cpu',
    stages: Sequence[int] | None = None,
    show_bands: Sequence[int] | None = None,
    window: int = 512,
    **reading: Any,
) -> FigureEncoder:
    """Build an encoder from a config and a checkpoint.

    Images are read as the config reads those of the training, but in their own size.

    Args:
        config: Config of the pre-training.
        checkpoint: As of :func:`~cmid_mm.evaluation.load_frozen_encoder`, as are
            ``backbone_only``, ``seed`` and ``options``.
        backbone_only: Whether the checkpoint is that of a backbone.
        seed: Of the initial weights.
        options: Config options of the run.
        device: Where it runs.
        stages: See :class:`FigureEncoder`, as ``show_bands`` and ``window``.
        show_bands: Bands to show.
        window: Side of windows.
        **reading: Attributes of :class:`~cmid_mm.images.Reading` that are to be others
            than the config says.
    """
    given = {name: value for name, value in reading.items() if value is not None}
    cfg = load_config(str(config))
    merge_options(cfg, options)
    scales = ('bands', 'value_range', 'nodata')
    loading = {name: given[name] for name in scales if name in given}
    model = load_frozen_encoder(
        config, checkpoint, backbone_only, seed, options, loading or None
    ).to(device)
    known = first_reading(cfg, 'train') or Reading()
    if 'bands' in given:
        given['num_bands'] = len(given['bands'])
    known = replace(known, **{'size': None, **given})
    return FigureEncoder(model, known, stages, show_bands, window)
