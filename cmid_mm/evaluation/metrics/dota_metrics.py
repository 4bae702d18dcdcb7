# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""DOTA's metric, and the zip file that its evaluation server takes."""

import re
from collections.abc import Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mmengine.registry import METRICS

from ...dependencies import DETECTION_VERSIONS, check_dependencies

check_dependencies(DETECTION_VERSIONS)

from mmrotate.evaluation import DOTAMetric  # noqa: E402
from mmrotate.evaluation.functional import mean_ap  # noqa: E402

#: ``P0006__1024__0___824``: image, size of the tile, its left and top pixel. Merging
#: cuts at the first double underscore.
_TILE_NAME = re.compile(r'(?:(?!__).)+__\d+__\d+___\d+')


@METRICS.register_module()
class InProcessDOTAMetric(DOTAMetric):
    """mmrotate's ``DOTAMetric`` without its processes.

    For each IoU threshold mmrotate starts four processes that first import everything
    anew. For a few thousand tiles that takes longer than to compare their boxes.

    Args:
        **kwargs: See ``DOTAMetric``.
    """

    default_prefix = 'dota'

    @staticmethod
    def score_names(
        iou_thrs: float | Sequence[float] = 0.5, **options: Any
    ) -> tuple[str, ...]:
        """Names of the scores, by the arguments of the metric."""
        thresholds = [iou_thrs] if isinstance(iou_thrs, float) else iou_thrs
        return (*(f'AP{int(iou * 100):02d}' for iou in thresholds), 'mAP')

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Compute the metrics of all images.

        Args:
            results (list): What ``process`` kept.

        Returns:
            dict[str, float]: ``AP50`` for the IoU 0.5, ..., and their mean ``mAP``.
        """
        get_context = mean_ap.get_context
        mean_ap.get_context = lambda _: SimpleNamespace(Pool=lambda _: ThreadPool(1))
        try:
            return super().compute_metrics(results)
        finally:
            mean_ap.get_context = get_context


@METRICS.register_module()
class DOTASubmission(DOTAMetric):
    """Merges the boxes of tiles to whole images and writes them for the server.

    ``DOTAMetric(format_only=True, merge_patches=True)`` that refuses an existing
    folder, or images that are no tiles, before the hours of inference and not after.

    Args:
        outfile_prefix (str): A folder that does not exist yet. It gets a text file
            ``Task1_CLASS.txt`` for each class and a zip file of them, named like the
            folder.
        **kwargs: See ``DOTAMetric``.

    Raises:
        FileExistsError: If the folder exists.
        ValueError: If an image is not named like a tile.
    """

    default_prefix = 'dota'

    @staticmethod
    def score_names(**options: Any) -> tuple[str, ...]:
        """None: the server scores what is written."""
        return ()

    def __init__(self, outfile_prefix: str, **kwargs: Any) -> None:
        super().__init__(
            format_only=True,
            merge_patches=True,
            outfile_prefix=outfile_prefix,
            **kwargs,
        )
        if Path(outfile_prefix).exists():
            raise FileExistsError(
                f'{outfile_prefix} exists; remove it, or name another folder: '
                '--cfg-options test_evaluator.outfile_prefix=...'
            )

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the boxes of a batch of tiles.

        Args:
            data_batch (Any): Unused.
            data_samples (Sequence[dict]): Samples with ``img_id`` and
                ``pred_instances``.
        """
        for sample in data_samples:
            if not _TILE_NAME.fullmatch(sample['img_id']):
                raise ValueError(
                    f'image {sample["img_id"]} is no tile; expected names such as '
                    'P0006__1024__0___824, as tools/prepare_data.py dota writes them '
                    'from images without __ in their names'
                )
        super().process(data_batch, data_samples)
