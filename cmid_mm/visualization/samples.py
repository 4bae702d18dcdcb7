# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Pictures of what a network sees: samples after pipeline and preprocessor."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmcv.transforms import LoadImageFromFile
from mmengine.config import Config
from mmengine.registry import DATASETS
from numpy.typing import NDArray
from torch import Tensor

from ..configs import build_model, collate_function, scope_of
from ..datasets.imagery import ImageryDataset
from ..datasets.transforms.bitemporal import LoadImagePair
from ..images.values import resize_nearest
from ..models.heads.assignment_head import AssignmentHead
from ..models.measuring import feature_map
from .drawing import (
    Picture,
    box_corners,
    enlarge,
    palette_of,
    side_by_side,
    stacked,
    titled,
    to_picture,
    write_text,
)
from .panels import (
    LEAST_SIDE,
    DrawnBoxes,
    box_panel,
    change_panel,
    label_text,
    mask_panel,
)


class SampleBrowser:
    """Draw samples as the network of a config gets them.

    Each sample goes through the pipeline of its data set and the model's data
    preprocessor (batch augmentations such as mixup included); only the normalisation
    is undone, so that colours can be seen.

    Args:
        cfg (Config): Any config of the five tasks, pre-training included.
        split (str): ``'train'``, ``'val'`` or ``'test'``. Defaults to ``'train'``.
        bands (Sequence[int], optional): Three bands to show as red, green and blue,
            or one, counted from 1 among the loaded ones. Defaults to None: the
            first three.
        seed (int): Seed of the augmentations. Defaults to 0.

    Raises:
        ValueError: If the config has no such data loader, or its samples belong to
            none of the tasks.
    """

    def __init__(
        self,
        cfg: Config,
        split: str = 'train',
        bands: Sequence[int] | None = None,
        seed: int = 0,
    ) -> None:
        loader = cfg.get(f'{split}_dataloader')
        if not loader:
            raise ValueError(
                f'the config has no {split}_dataloader; choose another --split'
            )
        self.training = split == 'train'
        self.bands = bands
        self.seed = seed
        with scope_of(cfg):
            self.dataset = DATASETS.build(loader['dataset'])
            self.collate = collate_function(loader)
        # All of it: which cells are matched depends on the backbone's feature map.
        self.model = build_model(cfg).eval()
        self.preprocessor = self.model.data_preprocessor
        self.meta = dict(getattr(self.dataset, 'metainfo', None) or {})
        self.shows_bgr = loads_bgr(self.dataset) != _converts(self.preprocessor)

    def draw(self, number: int) -> Iterator[tuple[str, Picture]]:
        """Draw samples spread evenly over the data set.

        Args:
            number (int): How many; all if there are fewer.

        Yields:
            tuple[str, np.ndarray]: Name and RGB picture.

        Raises:
            ValueError: If the samples belong to none of the tasks.
        """
        size = len(self.dataset)
        number = min(number, size)
        # Data sets are often sorted by class: the first would look alike.
        indices = [i * size // number for i in range(number)]
        np.random.seed(self.seed)
        torch.manual_seed(self.seed)
        if isinstance(self.dataset, ImageryDataset):
            # Its samples are augmented as their key says.
            keys = [index + self.seed * size for index in indices]
            batch = self.collate([self.dataset[key] for key in keys])
            # Of an unusable sample another stands in its place.
            paths = [
                self.dataset.get_data_info(int(index))['img_path']
                for index in batch['index']
            ]
            data = self.preprocessor(batch, self.training)
            pictures = (
                self._pretraining(data)
                if 'masked_images' in data
                else self._views(data, len(paths))
            )
        else:
            samples = [self.dataset[index] for index in indices]
            paths = [sample['data_samples'].get('img_path') or '' for sample in samples]
            pictures = self._labelled(samples)
        width = len(str(number - 1))
        for i, (path, picture) in enumerate(zip(paths, pictures, strict=True)):
            yield f'{i:0{width}d}_{Path(str(path)).stem}', picture

    # -- Pre-training --------------------------------------------------------------

    def _pretraining(self, data: dict[str, Any]) -> Iterator[Picture]:
        full, masked = (
            [self._pixels(view) for view in data[key]]
            for key in ('images', 'masked_images')
        )
        head = _assignment_head(self.model)
        matches = None if head is None else self._matches(data, head)
        for i in range(len(full[0])):
            rows = []
            for direction, (query, key) in enumerate(((0, 1), (1, 0))):
                names = ('org', 'view')
                student = enlarge(to_picture(masked[query][i], self.bands), LEAST_SIDE)
                teacher = enlarge(to_picture(full[key][i], self.bands), LEAST_SIDE)
                title = f'teacher: {names[key]}'
                if matches is not None:
                    grid, pairs, near = matches[direction]
                    _draw_matches(student, teacher, pairs[i], near[i], grid)
                    title += (
                        f'   {int(near[i].sum())} of {len(near[i])} on the same ground'
                    )
                rows.append(
                    side_by_side(
                        [
                            titled(student, f'student: {names[query]}, masked'),
                            titled(teacher, title),
                        ]
                    )
                )
            yield stacked(rows)

    def _views(self, data: dict[str, Any], number: int) -> Iterator[Picture]:
        """The two views of other methods; where masks come with them, masked."""
        views = data['inputs']
        if isinstance(views, Tensor):  # one behind the other
            views = views.split(number)
        pixels = [image for view in views for image in self._pixels(view)]
        titles = ['org'] * number + ['view'] * number
        pictures = []
        for k, sample in enumerate(data['data_samples'] or [None] * len(pixels)):
            if sample is not None:
                height, width, _ = pixels[k].shape
                hidden = resize_nearest(sample.mask.numpy() > 0, (height, width))
                mean = pixels[k].mean((0, 1))
                pixels[k] = np.where(hidden[..., None], mean, pixels[k])
                titles[k] += ', masked'
            picture = enlarge(to_picture(pixels[k], self.bands), LEAST_SIDE)
            pictures.append(titled(picture, titles[k]))
        for pair in zip(pictures[:number], pictures[number:], strict=True):
            yield side_by_side(pair)

    @torch.no_grad()
    def _matches(
        self, data: dict[str, Any], head: AssignmentHead
    ) -> list[tuple[tuple[int, int], NDArray[Any], NDArray[np.bool_]]]:
        """Grid, matched cells (B, M, 2) and which are near, of both directions."""
        size = data['images'][0].shape[-2:]
        outputs = self.model.student.stages(data['images'][0][:1])
        features = feature_map(outputs, head.stage)
        rows, columns = features.shape[-2:]
        grid = (rows, columns)
        boxes = data['boxes']
        found = []
        for query, key in ((0, 1), (1, 0)):
            chosen, nearest, near = head.match(boxes[query], boxes[key], grid, size)
            found.append(
                (grid, torch.stack((chosen, nearest), -1).numpy(), near.numpy())
            )
        return found

    # -- Labelled samples ----------------------------------------------------------

    def _labelled(self, samples: list[dict[str, Any]]) -> Iterator[Picture]:
        # Batch augmentations mix images of a batch; else each image by itself, as
        # images of different size cannot be joined.
        mixes = self.training and getattr(self.preprocessor, 'batch_augments', None)
        groups = [samples] if mixes else [[sample] for sample in samples]
        for group in groups:
            data = self.preprocessor(self.collate(group), self.training)
            pixels = self._pixels(data['inputs'])
            for image, sample in zip(pixels, data['data_samples'], strict=True):
                yield self._draw_sample(image, sample)

    def _draw_sample(self, pixels: NDArray[Any], sample: Any) -> Picture:
        if 'gt_sem_seg' in sample:
            mask = sample.gt_sem_seg.data[0].cpu().numpy()
            if loads_pairs(self.dataset):
                return change_panel(pixels, {'label': mask}, self.bands)
            return mask_panel(
                to_picture(pixels, self.bands), {'label': mask}, self.meta
            )
        if 'gt_instances' in sample:
            boxes = true_boxes(sample, in_file=not self.training)
            return box_panel(
                to_picture(pixels, self.bands), {'label': boxes}, self.meta
            )
        if 'gt_label' in sample or 'gt_score' in sample:
            picture = enlarge(to_picture(pixels, self.bands), LEAST_SIDE)
            return titled(picture, label_text(sample, self.meta))
        raise ValueError(
            'samples of this config have no annotation that can be drawn '
            '(expected gt_label, gt_sem_seg or gt_instances)'
        )

    def _pixels(self, images: Tensor | Sequence[Tensor]) -> list[NDArray[Any]]:
        """Undo the normalisation: RGB or all bands, 0-255 scale, (H, W, C) each."""
        mean, std = (
            value if value is None else value.detach().cpu().float().reshape(-1, 1, 1)
            for value in (
                getattr(self.preprocessor, 'mean', None),
                getattr(self.preprocessor, 'std', None),
            )
        )
        pixels = []
        for image in images:
            image = image.detach().cpu().float()
            if mean is not None and std is not None:
                image = image * std + mean
            array = image.permute(1, 2, 0).numpy()
            if self.shows_bgr and array.shape[2] == 3:
                array = array[..., ::-1]
            pixels.append(array)
        return pixels


def _draw_matches(
    student: Picture,
    teacher: Picture,
    pairs: NDArray[Any],
    near: NDArray[np.bool_],
    grid: tuple[int, int],
) -> None:
    """Outline matched cells in one colour in both views, with one number.

    A match that shows other ground (further than half a stride) is crossed out.
    """
    rows, columns = grid
    colours = palette_of({}, len(pairs))
    height, width = student.shape[0] / rows, student.shape[1] / columns
    # Several cells can have the same nearest one: it gets all their numbers.
    numbers: dict[int, list[str]] = {}
    for number, (query, key) in enumerate(pairs.tolist(), 1):
        numbers.setdefault(key, []).append(str(number))
        cells = [(student, query, str(number))]
        if len(numbers[key]) == 1:
            cells.append((teacher, key, ''))
        for picture, cell, text in cells:
            top, left = cell // columns * height, cell % columns * width
            inner = (
                (round(left) + 1, round(top) + 1),
                (round(left + width) - 2, round(top + height) - 2),
            )
            cv2.rectangle(picture, *inner, colours[number - 1], 2)
            if not near[number - 1] and picture is student:
                (x0, y0), (x1, y1) = inner
                cv2.line(picture, (x0, y0), (x1, y1), (255, 0, 0), 1, cv2.LINE_AA)
                cv2.line(picture, (x0, y1), (x1, y0), (255, 0, 0), 1, cv2.LINE_AA)
            write_text(picture, text, left + 5, top + 15, scale=0.4)
    for key, texts in numbers.items():
        top, left = key // columns * height, key % columns * width
        write_text(teacher, ','.join(texts), left + 5, top + 15, scale=0.4)


def _assignment_head(model: Any) -> AssignmentHead | None:
    for head in model.heads.values():
        if isinstance(head, AssignmentHead):
            return head
    return None


def true_boxes(sample: Any, in_file: bool, predicted: bool = False) -> DrawnBoxes:
    """Boxes of a sample of mmdet or mmrotate, in pixels of the network's image.

    Args:
        sample (DetDataSample): The sample.
        in_file (bool): Whether its boxes are in pixels of the file, as those of test
            pipelines and predictions are.
        predicted (bool): Take the predictions instead of the annotations. Defaults
            to False.
    """
    instances = sample.pred_instances if predicted else sample.gt_instances
    boxes = getattr(instances.bboxes, 'tensor', instances.bboxes)
    corners = box_corners(boxes.cpu().numpy())
    if in_file:
        scale = np.asarray(sample.get('scale_factor', (1, 1))[:2], np.float64)
        corners = corners * np.tile(scale, 4)
    scores = instances.scores.cpu().tolist() if predicted else None
    return DrawnBoxes(corners, instances.labels.cpu().tolist(), scores)


def loads_pairs(dataset: Any) -> bool:
    """Whether samples of a data set are two dates stacked on channels."""
    return isinstance(_first_transform(dataset), LoadImagePair)


def loads_bgr(dataset: Any) -> bool:
    """Whether a data set loads blue first, as mmcv does, not red first."""
    return isinstance(_first_transform(dataset), LoadImageFromFile)


def _first_transform(dataset: Any) -> Any:
    while hasattr(dataset, 'dataset'):
        dataset = dataset.dataset
    if hasattr(dataset, 'datasets'):
        return _first_transform(dataset.datasets[0])
    return dataset.pipeline.transforms[0]


def _converts(preprocessor: Any) -> bool:
    """Whether a preprocessor exchanges red and blue."""
    return bool(
        getattr(preprocessor, '_channel_conversion', False)
        or getattr(preprocessor, 'to_rgb', False)
    )
