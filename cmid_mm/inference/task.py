# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What the inference of all tasks has in common."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import TRANSFORMS
from numpy.typing import NDArray
from torch import nn

from ..configs import collate_function, innermost_dataset, scope_of, type_name
from ..images import (
    NoValidPixelError,
    Quality,
    Reading,
    Window,
    named_images,
    without_masks,
)
from ..images.notices import say_once
from ..labels.vectors import Area
from ..visualization.drawing import class_names, palette_of
from .background import in_background
from .booking import ErrorHandler, booked_on, ignore, path_of
from .images import AnyImage, InputImage
from .merging import Opinions
from .network import Network
from .progress import NoProgress, Progress
from .unfinished import Unfinished
from .windows import WindowGrid, chunks

#: Side of windows where the config does not say for which size it is made.
DEFAULT_WINDOW = 1024

#: Transforms that load or change annotations, which new images do not have.
_ANNOTATIONS = re.compile(r'Annotation|Label|Mask|ConvertBoxType|GTBox')

#: What makes a result of an image that is predicted in windows.
LargeResult = Callable[[AnyImage, WindowGrid, int], Any]


class Sample(NamedTuple):
    """An image, or a window of it, as the test pipeline makes it.

    Attributes:
        data: What the model takes.
        missing: Pixels without data, bool (H, W); None if there are none.
    """

    data: dict[str, Any]
    missing: NDArray[np.bool_] | None


class Opened(NamedTuple):
    """An image that is to be predicted.

    Attributes:
        item: What it was given as: a file or a pair.
        image: The image.
        sample: All of it; None if it is predicted in windows.
    """

    item: Any
    image: AnyImage
    sample: Sample | None


class Task:
    """Inference with one model: reading, batching, results.

    Args:
        cfg (Config): Config of the model.
        model (nn.Module): The model with its weights, in evaluation mode.
        meta (dict): Meta information of the data set: classes, palette.
    """

    #: What the task is called.
    name: ClassVar[str]
    #: Whether several results are summed up in a file.
    has_summary: ClassVar[bool] = False
    #: Three bands to show in pictures, or one, counted from 1 among those loaded.
    bands: Sequence[int] | None = None
    #: Who is told of each batch of windows.
    progress: Progress = NoProgress()
    #: Images are predicted inside of it only.
    area: Area | None = None
    #: Ending of files of boxes in map coordinates, one of ``VECTOR_FORMATS``.
    vector_format = 'geojson'

    def __init__(self, cfg: Config, model: nn.Module, meta: dict[str, Any]) -> None:
        self.cfg = cfg
        self.model: Any = model
        #: What predicts; it may be of several models and views.
        self.network = Network([model])
        self.meta = meta
        pipeline = image_pipeline(cfg)
        with scope_of(cfg):
            self.loader = TRANSFORMS.build(pipeline[0])
            self.steps = Compose(pipeline[1:])
            self.collate = collate_function(cfg.test_dataloader)
        self.window = self.default_window(pipeline)

    def set_classes(self, count: int) -> None:
        """Names and colours of so many classes, from the meta information."""
        self.classes = class_names(self.meta, count)[:count]
        self.palette = palette_of(self.meta, count)

    def default_window(self, pipeline: Sequence[dict[str, Any]]) -> int:
        """Side of the windows for which the config is made, in pixels; 0 for none."""
        windowed = innermost_dataset(self.cfg, 'test').get('window')
        if windowed:
            return int(windowed)  # of own scenes, as in training
        for step in pipeline:
            if type_name(step) == 'Resize' and step.get('scale'):
                scale = step['scale']
                return scale if isinstance(scale, int) else min(scale)
        if (self.cfg.model.get('test_cfg') or {}).get('mode') == 'slide':
            return 2 * DEFAULT_WINDOW  # the model itself divides these
        return DEFAULT_WINDOW

    # -- Input ---------------------------------------------------------------------

    def find(self, names: Sequence[str | Path]) -> list[Any]:
        """Images that files, folders and patterns name."""
        return without_masks(named_images(names), self.quality)

    @property
    def quality(self) -> Quality | None:
        """How masks of missing pixels beside images are called."""
        reading = getattr(self.loader, 'reading', None)
        return reading.quality if isinstance(reading, Reading) else None

    def open(self, image: Any) -> AnyImage:
        """Open an image; only its header is read if that suffices."""
        return InputImage(image, self.loader, self.area)

    def sample(self, image: AnyImage, window: Window | None = None) -> Sample:
        """What the test pipeline makes of an image or of a window of it.

        Raises:
            NoValidPixelError: If a band holds no data there.
        """
        pixels, missing = image.read(window)
        pixels = np.ascontiguousarray(pixels)
        shape = pixels.shape[:2]
        data = self.steps(
            dict(
                img=pixels,
                img_shape=shape,
                ori_shape=shape,
                img_path=str(image.path),
                img_id=0,
            )
        )
        return Sample(data, missing)

    # -- Prediction ----------------------------------------------------------------

    @torch.no_grad()
    def forward(self, samples: Sequence[dict[str, Any]]) -> list[Any]:
        """Predict samples as the test loop does; those of one shape as one batch."""
        predictions: list[Any] = []
        start = 0
        for index in range(1, len(samples) + 1):
            shape = samples[start]['inputs'].shape
            if index == len(samples) or samples[index]['inputs'].shape != shape:
                opinions = self.network.predict(samples[start:index], self.collate)
                if self.network.is_single:
                    predictions += next(opinions)[1]
                else:
                    predictions += self.merge(opinions)
                start = index
        return predictions

    def merge(self, opinions: Opinions) -> list[Any]:
        """Predictions of the same samples by several models or in several views."""
        raise NotImplementedError

    def predict(
        self,
        images: Sequence[Any],
        batch_size: int = 1,
        window: int | None = None,
        overlap: int | None = None,
        on_error: ErrorHandler | None = None,
        large_result: LargeResult | None = None,
        wanted: Callable[[Any], bool] = lambda image: True,
    ) -> Iterator[Any]:
        """Predict images; see :class:`Inferencer`.

        ``large_result`` takes images that are predicted in windows; by default
        their results are made in memory as well. Only ``wanted`` images have results,
        but those that share a batch with one are predicted all the same: a network's
        last digits depend on the batch.
        """
        window, overlap = self.check_window(window, overlap)
        large_result = large_result or self.large_result
        batches = (
            self._opened(batch, window, on_error, wanted)
            for batch in chunks(images, batch_size)
            if any(map(wanted, batch))
        )
        # The next ones are read while the network works.
        with closing(in_background(batches, ahead=1)) as read:
            for batch in read:
                small = [each for each in batch if each.sample is not None]
                predictions = iter(self._predict_together(small, on_error))
                for each in batch:
                    known = None if each.sample is None else next(predictions)
                    if not wanted(each.item):
                        continue
                    with booked_on(each.item, on_error):
                        image = each.image
                        if each.sample is None:
                            size = image.height, image.width
                            grid = WindowGrid(*size, window, overlap)
                            yield large_result(image, grid, batch_size)
                        elif known is not None:
                            yield self.result(image, known, each.sample.missing)

    def _opened(
        self,
        batch: Sequence[Any],
        window: int,
        on_error: ErrorHandler | None,
        wanted: Callable[[Any], bool],
    ) -> list[Opened]:
        """The images of a batch, but those that cannot be opened."""
        opened = []
        for item in batch:
            with booked_on(item, on_error if wanted(item) else ignore):
                image, sample = self.open(item), None
                if not window or max(image.height, image.width) <= window:
                    sample = self.sample(image)
                opened.append(Opened(item, image, sample))
        return opened

    def _predict_together(
        self, batch: Sequence[Opened], on_error: ErrorHandler | None
    ) -> list[Any]:
        """Predictions of images that have samples; None of one that fails."""
        try:
            return self.forward([each.sample.data for each in batch if each.sample])
        except Exception as error:
            if on_error is None:
                raise
            if len(batch) == 1:
                on_error(path_of(batch[0].item), error)
                return [None]
        # By itself, each shows whose error it is.
        return [
            prediction
            for each in batch
            for prediction in self._predict_together([each], on_error)
        ]

    def check_window(self, window: int | None, overlap: int | None) -> tuple[int, int]:
        """Window and overlap in pixels, with defaults.

        Raises:
            ValueError: If they do not fit together.
        """
        window = self.window if window is None else window
        overlap = window // 4 if overlap is None else overlap
        if window < 0 or (window and not 0 <= overlap < window):
            raise ValueError(
                f'window={window} and overlap={overlap}: the overlap must be at least '
                '0 and smaller than the window (window 0: none, whole images)'
            )
        return window, overlap

    def predict_windows(
        self, image: AnyImage, grid: WindowGrid, rows: range, batch_size: int
    ) -> Iterator[tuple[Window, Any, NDArray[np.bool_] | None]]:
        """Predict rows of windows of an image, in their order, but those without data.

        Windows are batched by their position in the image, whichever rows are asked
        for: a network's last digits depend on the batch.

        Yields:
            Window, prediction, and which of its pixels are missing, (h, w), or None.
        """
        tops = {grid.tops[row] for row in rows}
        batches = (
            (batch, list(self._samples(image, batch)))
            for batch in chunks(grid.windows, batch_size)
            if not tops.isdisjoint(window[0] for window in batch)
        )
        # The next ones are read while the network works.
        with closing(in_background(batches, ahead=2)) as read:
            for batch, samples in read:
                predictions = self.forward([sample.data for _, sample in samples])
                for (window, sample), prediction in zip(
                    samples, predictions, strict=True
                ):
                    if window[0] in tops:
                        yield window, prediction, sample.missing
                self.progress.advance(sum(window[0] in tops for window in batch))

    def _samples(
        self, image: AnyImage, windows: Sequence[Window]
    ) -> Iterator[tuple[Window, Sample]]:
        for window in windows:
            if image.part is not None and not image.part.touches(window):
                continue
            try:
                yield window, self.sample(image, window)
            except NoValidPixelError as error:
                say_once('missing window', f'{error}: it is missing in the result')

    # -- Results, by task ----------------------------------------------------------

    def result(
        self, image: AnyImage, prediction: Any, missing: NDArray[np.bool_] | None
    ) -> Any:
        """The result of an image that was predicted whole."""
        raise NotImplementedError

    def large_result(self, image: AnyImage, grid: WindowGrid, batch_size: int) -> Any:
        """The result of an image that is predicted in windows, in memory.

        Raises:
            NoValidPixelError: If no window holds data.
        """
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """What results depend on beside config, weights, image and windows."""
        return {}

    def write_strips(
        self,
        image: AnyImage,
        grid: WindowGrid,
        strips: range,
        batch_size: int,
        to: Unfinished,
    ) -> None:
        """Predict strips of a large image and settle each.

        Args:
            image: The image.
            grid: All its windows.
            strips: Neighbours that are not done.
            batch_size: Windows predicted together.
            to: Where what is predicted goes.
        """
        raise NotImplementedError

    def join_strips(
        self, image: AnyImage, grid: WindowGrid, to: Unfinished
    ) -> tuple[list[Path], Any]:
        """Write the files of an image all of whose strips are done.

        Returns:
            The files, and what :meth:`summary` makes of the result.

        Raises:
            NoValidPixelError: If no window holds data.
        """
        raise NotImplementedError

    def saved_files(self, folder: Path, name: str) -> list[Path]:
        """The files of a result that is complete; none if it is not."""
        return []

    def save(self, result: Any, folder: Path, name: str) -> list[Path]:
        """Write the files of one result.

        Args:
            result: One of the results of :meth:`predict`.
            folder: Where to.
            name: Name of the files, without extension.
        """
        raise NotImplementedError

    def summary(self, result: Any) -> Any:
        """What :meth:`save_summary` needs of a result. Most tasks need nothing."""
        return None

    def save_summary(self, summaries: Sequence[Any], folder: Path) -> None:
        """Write what sums up several results. Most tasks have no such file."""


def image_pipeline(cfg: Config) -> list[Any]:
    """Configs of the transforms of the test pipeline that new images go through.

    Raises:
        ValueError: If the config has no test pipeline.
    """
    steps = innermost_dataset(cfg, 'test')['pipeline']
    return [step for step in steps if not _ANNOTATIONS.search(type_name(step))]
