# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Pictures of predictions beside the ground truth, while testing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..images.writing import write_image
from ..visualization.drawing import class_names, enlarge, titled, to_picture
from ..visualization.panels import (
    LEAST_SIDE,
    DrawnBoxes,
    box_panel,
    change_panel,
    label_text,
    mask_panel,
)
from ..visualization.samples import loads_bgr, loads_pairs, true_boxes
from .images import output_names


class PredictionPicturesHook(Hook):
    """Draw each test image with its label and its prediction, for all four tasks.

    Pictures are named as ``tools/predict.py`` names its results; those of windows of
    scenes, where the pipeline packs ``window``, with its first row and column too.

    Args:
        folder (str | Path): Where the pictures go.
        score_threshold (float): Detections below it are not drawn. Defaults to 0.3.
        bands: Three bands to show as red, green and blue, or one, counted from 1 among
            the loaded ones. Defaults to None, the first three.
    """

    def __init__(
        self,
        folder: str | Path,
        score_threshold: float = 0.3,
        bands: Sequence[int] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.score_threshold = score_threshold
        self.bands = bands

    def before_test(self, runner: Runner) -> None:
        """Find names for the pictures: files in different folders may share theirs."""
        dataset: Any = runner.test_dataloader.dataset
        paths = [
            Path(dataset.get_data_info(index)['img_path'])
            for index in range(len(dataset))
        ]
        paths = list(dict.fromkeys(paths))
        names = output_names(paths, self.folder)
        self._names = dict(zip(map(str, paths), names, strict=True))

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[Any] | None = None,
    ) -> None:
        """Draw the samples of a batch."""
        dataset: Any = runner.test_dataloader.dataset
        meta = dict(dataset.metainfo)
        for tensor, sample in zip(_images(data_batch), outputs or (), strict=True):
            pixels = tensor.permute(1, 2, 0).cpu().numpy()
            if loads_bgr(dataset) and pixels.shape[2] == 3:
                pixels = pixels[..., ::-1]
            if 'pred_sem_seg' in sample:
                masks = {
                    title: sample.get(key).data[0].cpu().numpy()
                    for title, key in (
                        ('label', 'gt_sem_seg'),
                        ('prediction', 'pred_sem_seg'),
                    )
                    if key in sample
                }
                if loads_pairs(dataset):
                    picture = change_panel(pixels, masks, self.bands)
                else:
                    picture = mask_panel(to_picture(pixels, self.bands), masks, meta)
            elif 'pred_instances' in sample:
                image = to_picture(pixels, self.bands)
                picture = box_panel(image, self._boxes(sample), meta)
            else:
                score, label = sample.pred_score.max(0)
                names = class_names(meta, len(sample.pred_score))
                text = f'{names[int(label)]} {float(score):.2f}'
                if 'gt_label' in sample:
                    text += f' ({label_text(sample, meta)})'
                image = enlarge(to_picture(pixels, self.bands), LEAST_SIDE)
                picture = titled(image, text)
            name = self._names[str(Path(sample.get('img_path')))]
            if 'window' in sample:
                top, left, *_ = sample.window
                name = f'{name}_{top}_{left}'
            write_image(self.folder / f'{name}.jpg', picture)

    def _boxes(self, sample: Any) -> dict[str, DrawnBoxes]:
        sets = {}
        if 'gt_instances' in sample:
            sets['label'] = true_boxes(sample, in_file=True)
        sample = sample.clone()
        found = sample.pred_instances
        sample.pred_instances = found[found.scores >= self.score_threshold]
        title = f'prediction, score {self.score_threshold:g} and above'
        sets[title] = true_boxes(sample, in_file=True, predicted=True)
        return sets


def _images(data_batch: Any) -> Any:
    """Images of a batch; of test-time augmentations the one that is not flipped."""
    inputs, samples = data_batch['inputs'], data_batch['data_samples']
    if not isinstance(samples[0], (list, tuple)):
        return inputs
    plain = [i for i, group in enumerate(samples) if not group[0].get('flip')]
    return inputs[plain[0] if plain else 0]
