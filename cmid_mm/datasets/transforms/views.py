# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The two views of an image, with the place of each (docs/method.md, Views)."""

import math
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS
from numpy.typing import NDArray

from ...ranges import Count, Index, PositiveRange
from .order import require

# Draws of area and ratio before the largest centred crop is taken.
_ATTEMPTS = 10


@TRANSFORMS.register_module()
class ViewPair(BaseTransform):
    """Take two random resized crops of one image, each flipped at random.

    Required key: ``img`` (H, W, C). Added keys: ``org`` and ``view``, each
    (size, size, C), and ``boxes``, float32 (2, 5): top, left, height, width of the
    crop in pixels of ``img``, and its orientation: 1 if it was flipped horizontally,
    plus twice the number of quarter turns counter-clockwise that followed. With
    ``num_crops``, ``crops``: small crops that only the student sees, of smaller parts
    of the image ("multi-crop" of Caron et al., SwAV, NeurIPS 2020).

    Args:
        size (int): Side of the views in pixels.
        area (Sequence[float]): Range of the crop's share of the image area.
            Defaults to (0.3, 1.0).
        ratio (Sequence[float]): Range of the crop's width / height, sampled
            log-uniformly. Defaults to (3/4, 4/3).
        flip_prob (float): Probability of a horizontal flip. Defaults to 0.5.
        turn: Turn each view by a random number of quarter turns too. Images from
            above have no upper side.
        num_crops: Number of small crops.
        crop_size: Their side in pixels.
        crop_area: PositiveRange of their share of the image area.
    """

    def __init__(
        self,
        size: Count,
        area: PositiveRange = (0.3, 1.0),
        ratio: PositiveRange = (3 / 4, 4 / 3),
        flip_prob: float = 0.5,
        turn: bool = False,
        num_crops: Index = 0,
        crop_size: Count = 96,
        crop_area: PositiveRange = (0.05, 0.3),
    ) -> None:
        for name, share in (('area', area), ('crop_area', crop_area)):
            if not 0 < share[0] <= share[1] <= 1:
                raise ValueError(
                    f'ViewPair: {name} must lie within (0, 1], got {share}'
                )
        if num_crops and crop_size > size:
            raise ValueError(
                f'ViewPair: crop_size={crop_size}, but size={size}: expected small '
                'crops no larger than the views; set crop_size lower, or num_crops=0'
            )
        if not 0 < ratio[0] <= ratio[1]:
            raise ValueError(f'ViewPair: ratio must be (low, high), got {ratio}')
        if not 0 <= flip_prob <= 1:
            raise ValueError(f'ViewPair: flip_prob must be in 0-1, got {flip_prob}')
        self.size = size
        self.area = area[0], area[1]
        self.ratio = ratio[0], ratio[1]
        self.flip_prob = flip_prob
        self.turn = turn
        self.num_crops = num_crops
        self.crop_size = crop_size
        self.crop_area = crop_area[0], crop_area[1]

    def sample_box(
        self, height: int, width: int, area_range: tuple[float, float]
    ) -> tuple[int, int, int, int]:
        """Draw a crop by the rule of torchvision's ``RandomResizedCrop``.

        Args:
            height: Height of the image in pixels.
            width: Width of the image in pixels.
            area_range: Range of the crop's share of the image area.

        Returns:
            tuple[int, int, int, int]: Top, left, height, width in pixels.
        """
        log_low, log_high = math.log(self.ratio[0]), math.log(self.ratio[1])
        for _ in range(_ATTEMPTS):
            area = height * width * np.random.uniform(*area_range)
            ratio = math.exp(np.random.uniform(log_low, log_high))
            crop_width = round(math.sqrt(area * ratio))
            crop_height = round(math.sqrt(area / ratio))
            if 0 < crop_width <= width and 0 < crop_height <= height:
                top = np.random.randint(0, height - crop_height + 1)
                left = np.random.randint(0, width - crop_width + 1)
                return top, left, crop_height, crop_width
        crop_height, crop_width = height, width
        if width / height < self.ratio[0]:
            crop_height = max(1, round(width / self.ratio[0]))
        elif width / height > self.ratio[1]:
            crop_width = max(1, round(height * self.ratio[1]))
        top = (height - crop_height) // 2
        left = (width - crop_width) // 2
        return top, left, crop_height, crop_width

    def crop(
        self, image: NDArray[Any], size: int, area: tuple[float, float]
    ) -> tuple[NDArray[Any], tuple[float, float, float, float, float]]:
        """Draw one view.

        Args:
            image: (H, W, C).
            size: Side of the view in pixels.
            area: Range of its share of the image area.

        Returns:
            tuple: View (size, size, C) and its box (top, left, height, width,
            orientation).
        """
        rows, columns = image.shape[:2]
        top, left, height, width = self.sample_box(rows, columns, area)
        flip = np.random.random() < self.flip_prob
        view = cv2.resize(
            image[top : top + height, left : left + width],
            (size, size),
            interpolation=cv2.INTER_LINEAR,
        )
        if flip:
            view = cv2.flip(view, 1)
        turns = np.random.randint(4) if self.turn else 0
        if turns:
            view = np.ascontiguousarray(np.rot90(view, turns))
        view = view.reshape(size, size, image.shape[2])
        return view, (top, left, height, width, float(flip + 2 * turns))

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add both views and their boxes."""
        require(self, results, img='LoadImagery')
        image = results['img']
        results['org'], org_box = self.crop(image, self.size, self.area)
        results['view'], view_box = self.crop(image, self.size, self.area)
        results['boxes'] = np.array([org_box, view_box], np.float32)  # (2, 5)
        results['crops'] = [
            self.crop(image, self.crop_size, self.crop_area)[0]
            for _ in range(self.num_crops)
        ]
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(size={self.size}, area={self.area}, '
            f'ratio={self.ratio}, flip_prob={self.flip_prob}, turn={self.turn}, '
            f'num_crops={self.num_crops}, crop_size={self.crop_size}, '
            f'crop_area={self.crop_area})'
        )
