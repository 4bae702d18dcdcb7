# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Oriented detection: a box for each object."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.structures import InstanceData
from numpy.typing import NDArray
from torch import Tensor, nn

from ..files import write_bytes
from ..images import Window
from ..images.writing import write_image
from ..labels.dota import format_boxes
from ..visualization.drawing import Picture, box_corners, to_picture
from ..visualization.panels import DrawnBoxes, box_panel
from .findings import Findings, FindingTask
from .georeferencing import write_boxes
from .ground import Ground
from .images import AnyImage, InputImage
from .merging import Opinions
from .segmentation import PICTURE_SIZE
from .suppression import suppress
from .windows import WindowGrid


@dataclass(frozen=True)
class DetectionResult:
    """The objects of one image, best first.

    Attributes:
        image (InputImage): The image.
        corners (np.ndarray): x1 y1 ... x4 y4 in pixels of the file, (N, 8).
        labels (np.ndarray): Class index of each, int64 (N,).
        scores (np.ndarray): Score of each, 0-1, float32 (N,).
        classes (list[str]): Names of the classes.
    """

    image: InputImage
    corners: NDArray[np.float64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    classes: list[str]


class Detection(FindingTask):
    """Inference of oriented (or upright) detection."""

    name = 'detection'
    #: Detections below this score are left out.
    score_threshold = 0.3

    def __init__(self, cfg: Config, model: nn.Module, meta: dict[str, Any]) -> None:
        super().__init__(cfg, model, meta)
        test_cfg = cfg.model.get('test_cfg') or {}
        # Two-stage detectors have settings of their second stage apart.
        self.nms = (test_cfg.get('rcnn') or test_cfg).get('nms')
        self.set_classes(_num_classes(cfg.model, len(meta.get('classes') or ())))

    def result(
        self, image: AnyImage, prediction: Any, missing: NDArray[np.bool_] | None
    ) -> DetectionResult:
        """The objects of an image that was predicted whole."""
        found = prediction.pred_instances
        return self._result(image, _tensor(found.bboxes), found.scores, found.labels)

    def found(self, window: Window, prediction: Any) -> Findings:
        """The objects in a window, boxes in pixels of the image."""
        seen = prediction.pred_instances
        good = seen.scores >= self.score_threshold
        boxes = _tensor(seen.bboxes)[good]
        offset = boxes.new_tensor((window[1], window[0]))  # x, y
        moved = 2 if boxes.shape[1] == 5 else boxes.shape[1]
        boxes[:, :moved] += offset.repeat(moved // 2)
        found = dict(boxes=boxes, scores=seen.scores[good], labels=seen.labels[good])
        return {name: values.cpu().numpy() for name, values in found.items()}

    def merged(
        self, image: AnyImage, grid: WindowGrid, findings: Findings
    ) -> DetectionResult:
        """The objects of all windows; of one found in two, the better box."""
        boxes, scores, labels = (
            torch.from_numpy(findings[name]) for name in ('boxes', 'scores', 'labels')
        )
        return self._result(image, *self._suppress(boxes, scores, labels))

    def merge(self, opinions: Opinions) -> list[Any]:
        """The boxes of all; of those of one object, the best."""
        views, found = zip(*opinions, strict=True)
        for prediction, *others in zip(*found, strict=True):
            parts = []
            for view, each in zip(views, (prediction, *others), strict=True):
                seen = each.pred_instances
                height, width = each.ori_shape[:: -1 if view.turns % 2 else 1]
                boxes = view.undo_boxes(_tensor(seen.bboxes), (height, width))
                parts.append((boxes, seen.scores, seen.labels))
            boxes, scores, labels = self._suppress(
                *(torch.cat(each) for each in zip(*parts, strict=True))
            )
            prediction.pred_instances = InstanceData(
                bboxes=boxes, scores=scores, labels=labels
            )
        return found[0]

    def _suppress(
        self, boxes: Tensor, scores: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes, scores and labels of several windows or views, each object once."""
        # Detectors such as DETR suppress nothing, but see an object twice in two
        # views all the same.
        kind = 'nms_rotated' if boxes.shape[1] == 5 else 'nms'
        nms = self.nms or dict(type=kind, iou_threshold=0.5)
        return suppress(boxes, scores, labels, nms)

    def settings(self) -> dict[str, Any]:
        """Which boxes are left out."""
        return {'score_threshold': self.score_threshold}

    def _result(
        self, image: AnyImage, boxes: Tensor, scores: Tensor, labels: Tensor
    ) -> DetectionResult:
        assert isinstance(image, InputImage)
        order = scores.argsort(descending=True, stable=True)
        order = order[scores[order] >= self.score_threshold]
        boxes, scores, labels = (
            tensor[order].cpu() for tensor in (boxes, scores, labels)
        )
        corners = box_corners(boxes.numpy())
        kept: NDArray[np.bool_] = np.ones(len(corners), bool)
        if image.part is not None:
            kept = image.part.holds(corners.reshape(-1, 4, 2).mean(1))
        return DetectionResult(
            image,
            corners[kept],
            labels.numpy()[kept],
            scores.numpy()[kept],
            self.classes,
        )

    def save(self, result: DetectionResult, folder: Path, name: str) -> list[Path]:
        """Write ``name.txt``, in DOTA's form with scores, and ``name.jpg``.

        A georeferenced image also gives ``name.geojson`` or ``name.gpkg``.
        """
        names = [self.classes[label] for label in result.labels]
        image = result.image
        paths = [folder / f'{name}.jpg']
        write_image(paths[0], self._draw(result))
        if image.place is not None:
            paths.append(folder / f'{name}.{self.vector_format}')
            confidence = result.scores.astype(float).round(4)
            fields: dict[str, Any] = {'class': names, 'score': confidence}
            ground = Ground(image.place, image.height, image.width)
            write_boxes(paths[-1], result.corners, fields, ground, 'detections')
        scores = [f'{score:.4f}' for score in result.scores]
        paths.append(folder / f'{name}.txt')
        # The last file says that the others are there.
        write_bytes(paths[-1], format_boxes(result.corners, names, scores))
        return paths

    def saved_files(self, folder: Path, name: str) -> list[Path]:
        """The files of a result that is complete; none if it is not."""
        paths = [folder / f'{name}{ending}' for ending in ('.jpg', '.txt')]
        return paths if all(path.exists() for path in paths) else []

    def _draw(self, result: DetectionResult) -> Picture:
        picture = to_picture(result.image.preview(PICTURE_SIZE), self.bands)
        scale = picture.shape[1] / result.image.width
        labels, scores = result.labels.tolist(), result.scores.tolist()
        boxes = DrawnBoxes(result.corners * scale, labels, scores)
        title = f'score {self.score_threshold:g} and above'
        return box_panel(picture, {title: boxes}, {'classes': self.classes})


def _tensor(boxes: Any) -> Tensor:
    """Boxes as a tensor, whatever class they have."""
    return boxes if isinstance(boxes, Tensor) else boxes.tensor


def _num_classes(model: Any, known: int) -> int:
    """Number of classes that a detector's config names, or the known number."""
    if isinstance(model, dict):
        found = [model['num_classes']] if 'num_classes' in model else []
        found += [_num_classes(value, 0) for value in model.values()]
    elif isinstance(model, (list, tuple)):
        found = [_num_classes(value, 0) for value in model]
    else:
        found = []
    return max([known, *found])
