# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The eight views of an image from above, which has no upper side."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

#: Meta information of a sample whose first two values are along the two sides.
_SIDES = ('ori_shape', 'img_shape', 'pad_shape', 'batch_input_shape', 'scale_factor')


class View(NamedTuple):
    """An image mirrored and turned.

    Attributes:
        mirrored: Whether left and right are exchanged, before it is turned.
        turns: Quarter turns, as ``torch.rot90`` makes them.
    """

    mirrored: bool = False
    turns: int = 0

    def of(self, pixels: Tensor) -> Tensor:
        """What an image (..., H, W) looks like in this view."""
        pixels = pixels.flip(-1) if self.mirrored else pixels
        return pixels.rot90(self.turns, (-2, -1))

    def undo(self, pixels: Tensor) -> Tensor:
        """Pixels (..., H, W) of this view where they lie in the image."""
        pixels = pixels.rot90(-self.turns, (-2, -1))
        return pixels.flip(-1) if self.mirrored else pixels

    def of_sample(self, sample: dict[str, Any]) -> dict[str, Any]:
        """A copy of what the test pipeline made of an image, in this view."""
        data = sample['data_samples'].clone()
        if self.turns % 2:
            known = {key: data.get(key) for key in _SIDES if data.get(key) is not None}
            data.set_metainfo(
                {key: (*side[1::-1], *side[2:]) for key, side in known.items()}
            )
        return dict(sample, inputs=self.of(sample['inputs']), data_samples=data)

    def undo_boxes(self, boxes: Tensor, shape: Sequence[int]) -> Tensor:
        """Boxes of this view where they lie in the image.

        Args:
            boxes: Centre, sides and angle (N, 5), two corners (N, 4) or four (N, 8).
            shape: Height and width of the image.
        """
        turned = boxes.shape[1] == 5
        points = boxes[:, :2] if turned else boxes
        x, y = points[:, 0::2], points[:, 1::2]
        angle = boxes[:, 4:] if turned else None
        for turn in reversed(range(self.turns)):
            # Before this turn it was as wide as it is high now.
            x, y = shape[1 - turn % 2] - y, x
            angle = None if angle is None else angle + torch.pi / 2
        if self.mirrored:
            x = shape[1] - x
            angle = None if angle is None else -angle
        if angle is not None:
            return torch.cat([x, y, boxes[:, 2:4], angle], 1)
        if boxes.shape[1] == 4:  # least and greatest corner, whichever they were
            x, y = x.sort(1).values, y.sort(1).values
        return torch.stack([x, y], 2).flatten(1)


#: Views by name. ``mirrored`` are those of ``tta_pipeline`` in the configs.
VIEWS = {
    'none': (View(),),
    'mirrored': (View(), View(True), View(True, 2)),
    'all': (*(View(False, k) for k in range(4)), *(View(True, k) for k in range(4))),
}
