# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""A backbone and its preprocessing from one file, for use without OpenMMLab."""

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.error import URLError
from urllib.parse import urlparse

import numpy as np
import torch
from mmengine.registry import MODELS
from numpy.typing import NDArray
from torch import Tensor, nn

from ..checkpoints import loading
from ..checkpoints.finding import find_backbone
from ..checkpoints.networks import network_config
from ..checkpoints.reading import CheckpointError, read_checkpoint
from ..checkpoints.stored_images import normalization, stored_reading
from ..configs import take_small_maps
from ..images import Reading, Window, load_array, load_image
from ..models.measuring import FeatureShape, measure

#: A remote file, by its scheme.
_URL = re.compile(r'(https?|file)://', re.IGNORECASE)
#: Part of the SHA-256 of a file in its name, as published files have it.
_DIGEST = re.compile(r'-([0-9a-f]{8,64})\.\w+$')
#: Norms of the outputs of single stages.
_STAGE_NORM = re.compile(r'(norm\d)\.(weight|bias)')


class Preprocess:
    """Makes images what a backbone takes: reads, chooses bands, scales, normalises.

    Args:
        reading: How files and arrays become numbers, 0-255.
        mean: Mean of each band, 0-255; None if unknown.
        std: Standard deviation likewise.
    """

    def __init__(
        self,
        reading: Reading,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
    ) -> None:
        self.reading = reading
        self.mean = mean
        self.std = std

    def __call__(
        self,
        images: Any,
        window: Window | None = None,
        layout: Literal['HWC', 'CHW'] | None = None,
    ) -> Tensor:
        """Prepare one image, or several of one size.

        Args:
            images: A file, or an array with all bands of a file, red first: 8 bits, or
                other numbers if the reading has a value range. Or a list.
            window: Part of a file to read: top, left, height, width in pixels.
            layout: Order of the axes of arrays. Defaults to None: (H, W, C), and
                arrays that could be (C, H, W) as well are refused.

        Returns:
            float32 (B, C, H, W); B is 1 of a single image.

        Raises:
            UnreadableImageError: If a file is missing or broken.
            BandMismatchError: If an image has not the bands.
            ValueError: If mean and standard deviation are not known, or the numbers
                of an array have no value range, or its layout is not clear.
        """
        if layout not in (None, 'HWC', 'CHW'):
            raise ValueError(f"layout must be 'HWC', 'CHW' or None, got {layout!r}")
        if self.mean is None or self.std is None:
            raise ValueError(
                'the checkpoint does not tell how its images were normalised; give '
                'mean=[...] and std=[...] (0-255) to load_backbone'
            )
        if isinstance(images, str) or not isinstance(images, Sequence):
            images = [images]
        pixels = [self._read(image, window, layout) for image in images]
        sizes = sorted({image.shape[:2] for image in pixels})
        if len(sizes) != 1:
            raise ValueError(
                f'images of one size make a batch, got {len(pixels)} of '
                f'{", ".join(f"{h} x {w}" for h, w in sizes) or "no size"} pixels; '
                'give them one by one, or size=... to load_backbone'
            )
        batch = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float()
        mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (self.mean, self.std))
        return ((batch - mean) / std).contiguous()

    def _read(
        self, image: Any, window: Window | None, layout: str | None
    ) -> NDArray[Any]:
        if isinstance(image, (str, Path)):
            return load_image(image, self.reading, window)
        return load_array(self._bands_last(np.asarray(image), layout), self.reading)

    def _bands_last(self, array: NDArray[Any], layout: str | None) -> NDArray[Any]:
        """An array as (H, W, C)."""
        if array.ndim not in (2, 3):
            raise ValueError(
                f'expected a file or an array (H, W, C), got {array.shape}; give '
                'several images as a list'
            )
        if array.ndim == 2 or layout == 'HWC':
            return array
        if layout == 'CHW':
            return array.transpose(1, 2, 0)
        first, _, last = array.shape
        if self._holds_bands(first) and first <= last:
            raise ValueError(
                f'an array {array.shape} can have its bands first or last; say '
                "which: preprocess(array, layout='CHW'), or 'HWC'"
            )
        return array

    def _holds_bands(self, count: int) -> bool:
        """Whether an axis of so many is long enough for the bands that are read."""
        bands = self.reading.bands
        if bands is None:
            return count == self.reading.num_bands
        return count >= max((b for b in bands if isinstance(b, int)), default=1)


class StageFeatures(nn.Module):
    """A backbone that returns the feature maps of its stages as a list.

    Of a ResNet, Swin or ConvNeXt the four stages, strides 4, 8, 16 and 32; of a ViT
    four maps of its stride, one behind each quarter of its blocks.

    Args:
        network: Returns a tuple of maps.
        description: What it is, such as ``'ResNet-50 (width 64, 3 input bands)'``.
    """

    def __init__(self, network: nn.Module, description: str) -> None:
        super().__init__()
        self.network = network
        self.description = description

    @property
    def shapes(self) -> list[FeatureShape]:
        """Channels and stride (pixels of the image per position) of each map."""
        count = len(self.network.out_indices)  # type: ignore[arg-type]
        return [measure(self.network, stage=stage) for stage in range(count)]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features of images.

        Args:
            images: As :class:`Preprocess` makes them, (B, C, H, W).

        Returns:
            Of each stage (B, channels, H / stride, W / stride), rounded up by ResNet,
            Swin and RVSA, down by ViT and ConvNeXt.
        """
        return list(self.network(images))


class LoadedBackbone(NamedTuple):
    """What :func:`load_backbone` returns.

    Attributes:
        backbone: The network, in evaluation mode.
        preprocess: Makes files and arrays its input.
    """

    backbone: StageFeatures
    preprocess: Preprocess


def load_backbone(
    path_or_url: str | os.PathLike[str],
    source: str = 'student',
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    **reading: Any,
) -> LoadedBackbone:
    """Load a backbone and its preprocessing from one file.

    ::

        backbone, preprocess = cmid_mm.load_backbone('cmid-r50-1a2b3c4d.safetensors')
        with torch.no_grad():
            features = backbone(preprocess('scene.tif'))  # a map of each stage

    The network is told from the weights, so that no config is needed, and every weight
    has to have its place in it. How images are read and normalised stands in published
    and exported files and in checkpoints of runs.

    Args:
        path_or_url: A checkpoint of a run, a published, exported or foreign one, see
            ``docs/pretrained_weights.md``; or its address (http, https), which is
            fetched once and checked against the digest in its name.
        source: Which network of the file: ``'student'``, ``'teacher'``, ...
        mean: Mean of each band, 0-255. Defaults to None, as the file says.
        std: Standard deviation likewise.
        **reading: Attributes of :class:`cmid_mm.images.Reading` that are to be others
            than the file says: ``bands``, ``value_range``, ``nodata``, ``size``, ...
            Images keep their size unless ``size`` is given.

    Returns:
        The backbone and its preprocessing.

    Raises:
        CheckpointError: If the file cannot be fetched or read, holds no backbone of a
            known family, or one whose weights do not all have a place.
        ValueError: If ``mean``, ``std`` and the bands of the weights differ in number.
    """
    path = _local(path_or_url)
    content = read_checkpoint(path, mmap=True, skip_objects=True)
    found = find_backbone(content, path, source)
    config = network_config(found, content, path)
    bands = config['in_channels']
    network = MODELS.build(config)
    take_small_maps(network)
    report = loading.load_backbone(network, path, source)
    # What the file has no norm for goes on to the next stage as it is.
    for name in report.new:
        if norm := _STAGE_NORM.fullmatch(name):
            setattr(network, norm[1], nn.Identity())
    known = normalization(content)
    stored = stored_reading(content)
    options = {} if stored is None else vars(stored)
    options = {**options, 'num_bands': bands, 'size': None, **reading}
    preprocess = Preprocess(
        Reading(**options), mean or known.get('mean'), std or known.get('std')
    )
    for name in ('mean', 'std'):
        values = getattr(preprocess, name)
        if values is not None and len(values) not in (1, bands):
            raise ValueError(
                f'{path_or_url} takes {bands} bands, but {name} has {len(values)} '
                'values; give one for each band, or one for all'
            )
    backbone = StageFeatures(network, str(found.architecture)).eval()
    return LoadedBackbone(backbone, preprocess)


def _local(path_or_url: str | os.PathLike[str]) -> Path:
    """The file, fetched before if it has an address."""
    text = os.fspath(path_or_url)
    if not _URL.match(text):
        return Path(text)
    name = Path(urlparse(text).path).name
    # Files of one name at several addresses are several.
    place = hashlib.sha256(text.encode()).hexdigest()[:16]
    path = Path(torch.hub.get_dir(), 'cmid_mm', place, name)
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = _DIGEST.search(name)
    try:
        torch.hub.download_url_to_file(
            text, str(path), digest and digest[1], progress=False
        )
    except (OSError, URLError, RuntimeError) as error:
        raise CheckpointError(
            f'{text} cannot be fetched: {error}; fetch the file and give its path'
        ) from error
    return path
