# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Predict images with a trained model, whatever its task."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.utils import import_modules_from_strings
from torch import nn

from ..checkpoints.fitting import load_weights
from ..checkpoints.stored_images import compare_reading, stored_reading
from ..configs import (
    build_model,
    dataset_meta,
    first_reading,
    innermost_dataset,
    load_config,
    type_name,
)
from .booking import ErrorHandler
from .exported import open_exported
from .network import Network
from .saving import Saved, Saver, weights_digest
from .shards import WHOLE, Shard
from .task import Task
from .views import VIEWS


class Inferencer:
    """Predict images with a model of any of the four tasks.

    Images are read and prepared by the test pipeline of the config, so that a
    prediction equals that of ``tools/test.py``. The task is that of the model::

        inferencer = Inferencer('config.py', 'work_dirs/mine/epoch_12.pth')
        for result in inferencer(['a.tif', 'b.tif']):
            print(result.image.path, result.mask.shape)

    Results are :class:`ClassificationResult`, :class:`SegmentationResult`,
    :class:`DetectionResult` or :class:`ChangeResult`.

    Args:
        config (str | Path | Config): Config of the model, as for training.
        checkpoint (str | Path | Sequence): Checkpoint of a run with it. Of several,
            the mean of the probabilities is predicted; of detectors, the boxes of all
            are merged by non-maximum suppression.
        device (str): ``'cpu'``, ``'cuda'``, ``'cuda:1'``, ... Defaults to ``'cpu'``.
        views (str): A name of :data:`VIEWS`: whether each image is also predicted
            in mirrored, or in all mirrored and turned views, which are merged likewise.
            Defaults to ``'none'``.
        half (bool): Whether to compute in half precision. Defaults to False.

    Raises:
        FileNotFoundError: If there is no such config.
        CheckpointError: If the checkpoint does not fit the model completely.
        ValueError: If the device or the task is not known, the device has no half
            precision, or the config has no test pipeline.
    """

    def __init__(
        self,
        config: str | Path | Config,
        checkpoint: str | Path | Sequence[str | Path],
        device: str = 'cpu',
        views: str = 'none',
        half: bool = False,
    ) -> None:
        cfg = config if isinstance(config, Config) else load_config(str(config))
        if cfg.get('custom_imports'):
            import_modules_from_strings(**cfg.custom_imports)
        innermost_dataset(cfg, 'test')  # refuses a config that has none
        if views not in VIEWS:
            raise ValueError(f'views={views!r} is none of {", ".join(VIEWS)}')
        if isinstance(checkpoint, (str, Path)):
            checkpoint = [checkpoint]
        loaded = [_load_model(cfg, each, device) for each in checkpoint]
        models = [model for model, _ in loaded]
        self._set_up(cfg, models, dataset_meta(cfg, loaded[0][1]), views, half)

    @classmethod
    def of_exported(
        cls, network: str | Path, device: str = 'cpu', views: str = 'none'
    ) -> 'Inferencer':
        """Predict with an exported network in place of a config and a checkpoint.

        Args:
            network: A file that ``cmid-mm export`` wrote, with its side-car beside it.
            device: As for the class.
            views: As for the class; all views need a network of any size, or squares.

        Raises:
            ExportedNetworkError: If the file or its side-car cannot be used.
            ImportError: If onnxruntime is missing, for ONNX.
        """
        inferencer = cls.__new__(cls)
        cfg, model, meta = open_exported(network, device)
        inferencer._set_up(cfg, [model], meta, views)
        return inferencer

    def _set_up(
        self,
        cfg: Config,
        models: Sequence[nn.Module],
        meta: dict[str, Any],
        views: str,
        half: bool = False,
    ) -> None:
        self.model = models[0]
        self._config = cfg
        self.task: Task = task_class(self.model, cfg)(cfg, self.model, meta)
        self.task.network = Network(models, VIEWS[views], half)

    def __call__(self, images: Any, **options: Any) -> list[Any]:
        """Predict images.

        Args:
            images (str | Path | Sequence): An image or several; for change
                detection a pair (first date, second date) or several.
            **options: ``batch_size``, ``window`` and ``overlap`` of :meth:`iterate`.

        Returns:
            list: A result for each image.
        """
        single = isinstance(images, (str, Path)) or (
            self.task.name == 'change detection'
            and isinstance(images, tuple)
            and len(images) == 2
            and not isinstance(images[0], (tuple, list))
        )
        return list(self.iterate([images] if single else images, **options))

    def iterate(
        self,
        images: Sequence[Any],
        batch_size: int = 1,
        window: int | None = None,
        overlap: int | None = None,
        on_error: ErrorHandler | None = None,
    ) -> Iterator[Any]:
        """Predict images one after the other, keeping only one result in memory.

        Images with a side longer than ``window`` are predicted in overlapping
        windows: masks are blended, boxes merged by non-maximum suppression.

        Args:
            images (Sequence): Images, or pairs.
            batch_size (int): Images, or windows, predicted together. Defaults to 1.
            window (int, optional): Side of the windows in pixels; 0 never divides
                images. Defaults to None: the size for which the config is made.
            overlap (int, optional): Pixels that neighbouring windows share.
                Defaults to None, a quarter of the window.
            on_error (Callable, optional): Called with the path and the error of
                an image that cannot be predicted, instead of stopping.

        Yields:
            The results, in the order of the images.

        Raises:
            UnreadableImageError: If an image is missing or broken.
            ValueError: If an image has other bands than the model takes, the two of
                a pair differ in size, or the window and the overlap do not fit.
        """
        _check_batch_size(batch_size)
        return self.task.predict(images, batch_size, window, overlap, on_error)

    def predict_to(
        self,
        folder: str | Path,
        images: Sequence[Any],
        resume: bool = False,
        shard: Shard = WHOLE,
        **options: Any,
    ) -> Iterator[Saved]:
        """Predict images and write the results, as ``tools/predict.py`` does.

        Images that are predicted in windows may be of any size: their results are
        written strip by strip. Stopped and called again with the same arguments, it
        goes on with what is not finished; the result is the same bit by bit.

        Args:
            folder: Where to.
            images: Images, or pairs.
            resume: Leave out images whose results are there, and newer. Defaults to
                False.
            shard: Which one this is of several processes, on any machines that share
                the folder, that do the work together. Whoever is the last one at an
                image makes its results, bit by bit those of a single process. Images
                that are finished are left out as with ``resume``. Defaults to all.
            **options: ``batch_size``, ``window``, ``overlap`` and ``on_error`` of
                :meth:`iterate`.

        Yields:
            What was written for each image.
        """
        _check_batch_size(options.get('batch_size', 1))
        digest = hashlib.blake2b(self._config.pretty_text.encode(), digest_size=16)
        network = self.task.network
        settings = {
            'config': digest.hexdigest(),
            'checkpoints': [weights_digest(model) for model in network.models],
            'views': network.views,
            'half': network.half,
        }
        saver = Saver(self.task, Path(folder), settings)
        return saver.predict(images, resume=resume, shard=shard, **options)


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise ValueError(f'batch_size must be at least 1, got {batch_size}')


def _load_model(
    cfg: Config, checkpoint: str | Path, device: str
) -> tuple[nn.Module, dict[str, Any]]:
    """The model of a config with the weights of a checkpoint, and what that says."""
    model = build_model(cfg)
    meta = load_weights(model, checkpoint)
    reading = stored_reading(dict(meta=meta))
    compare_reading(checkpoint, reading, first_reading(cfg, 'test'))
    try:
        model.to(torch.device(device))
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f'device {device!r} cannot be used: {error}') from None
    return model.eval(), meta


def task_class(model: nn.Module, cfg: Config) -> type[Task]:
    """The task of a model and its config.

    Raises:
        ValueError: If it is none of the four.
    """
    # The packages may be missing; then the model has none of their bases.
    bases = {base.__name__ for base in type(model).__mro__}
    if 'BaseSegmentor' in bases:
        from .change_detection import ChangeDetection
        from .segmentation import Segmentation

        loader = type_name(innermost_dataset(cfg, 'test')['pipeline'][0])
        return ChangeDetection if loader == 'LoadImagePair' else Segmentation
    if 'BaseDetector' in bases:
        from .detection import Detection  # needs mmcv's operators

        return Detection
    if 'BaseClassifier' in bases:
        from .classification import Classification

        return Classification
    raise ValueError(
        f'a {type(model).__name__} does none of the tasks that can be predicted: '
        'classification, segmentation, detection, change detection'
    )
