# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Networks as ONNX or programs of torch.export, checked on real images."""

import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..checkpoints.loading import match_backbone
from ..checkpoints.stored_images import as_stored, config_normalization, parts_named
from ..configs import (
    first_reading,
    innermost_dataset,
    load_config,
    scope_of,
    type_name,
)
from ..dependencies import __version__, onnx_exporter
from ..files import sha256_of, this_process, write_bytes
from ..images import named_images
from ..inference import Inferencer
from ..inference.exported import ENDINGS, ExportedNetwork, side_car
from ..inference.task import Task, image_pipeline
from ..inference.windows import WindowGrid
from .backbone import Preprocess, load_backbone
from .graphs import Classifier, Segmentor, has_fixed_size, traceable

#: Of what computes with ONNX: PyTorch's own.
OPSET = 18
#: Largest difference of an output, relative to its largest value (or to 1).
TOLERANCE = 1e-4
#: Real images, or windows of them, on which a network is checked.
_CHECKED = 4
#: Smallest side in pixels that is checked at a smaller size, too.
_LEAST = 96


class ExportError(ValueError):
    """A network that cannot be exported, or whose export differs from it."""


def export_network(
    config: str | os.PathLike[str] | Config,
    checkpoint: str | os.PathLike[str],
    target: str | os.PathLike[str],
    images: Sequence[str | Path],
    source: str = 'student',
    backbone: bool = False,
    size: int | None = None,
) -> dict[str, Any]:
    """Export a network, check it on images, and say beside it what it takes.

    Normalised images go in; out come logits of classes (B, K), of pixels (B, K, H, W),
    or the maps of all stages of a backbone.

    Args:
        config: Config of the model.
        checkpoint: Checkpoint of a run with it.
        target: The file, ending in ``.onnx`` or ``.pt2``; beside it ``target.json``.
        images: Files, folders or patterns; for change detection as for prediction.
        source: Which network of a pre-training: ``'student'`` or ``'teacher'``.
        backbone: Export the backbone alone also of a model of a task.
        size: Side in pixels of the windows that the network is checked on, which
            those of a fixed size (Swin, ViT, RVSA) take alone. Defaults to None: the
            window of the config; of a backbone 224.

    Returns:
        What was written beside it.

    Raises:
        ExportError: If the network cannot be exported, or differs once it is.
        CheckpointError: If the checkpoint does not fit.
        ImportError: If ONNX is asked for, and not installed.
    """
    target = Path(target)
    if target.suffix not in ENDINGS:
        raise ExportError(f'OUT {target}: expected a name in {" or ".join(ENDINGS)}')
    if size is not None and size < 1:
        raise ExportError(f'--size {size}: expected a number of pixels above 0')
    if target.suffix == '.onnx':
        onnx_exporter()
    cfg = config if isinstance(config, Config) else load_config(str(config))
    if backbone or cfg.get('test_dataloader') is None:
        network, samples, said = _backbone(cfg, checkpoint, images, source, size)
    else:
        network, samples, said = _model(cfg, checkpoint, images, size)
    fixed = has_fixed_size(network)
    if fixed:
        shape = samples[0].shape if size is None else (0, 0, size, size)
        samples = [each for each in samples if each.shape[2:] == shape[2:]]
    if not samples:
        raise ExportError(
            f'{target}: the network takes images of one size, and of the images given '
            f'none has a window of {size} x {size} pixels; give larger ones or another '
            '--size'
        )
    program = _program(traceable(network), samples[0], fixed, target)
    part = target.with_name(f'.{target.stem}.{this_process()}{target.suffix}')
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        _save(program, part, said['task'])
        difference = _check(network, ExportedNetwork(part), samples, fixed, target)
        digest = sha256_of(part)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    sides = list(samples[0].shape[2:]) if fixed else ['height', 'width']
    said = dict(
        file=target.name,
        sha256=digest,
        checkpoint=Path(checkpoint).name,
        cmid_mm_version=__version__,
        opset=OPSET if target.suffix == '.onnx' else None,
        input=['batch', samples[0].shape[1], *sides],
        checked=dict(
            images=len(samples), largest_difference=difference, tolerance=TOLERANCE
        ),
        **said,
    )
    write_bytes(side_car(target), (json.dumps(said, indent=2) + '\n').encode())
    return said


def _backbone(
    cfg: Config,
    checkpoint: Any,
    images: Sequence[str | Path],
    source: str,
    size: int | None,
) -> tuple[nn.Module, list[Tensor], dict[str, Any]]:
    """A backbone, and real images as it takes them."""
    _check_architecture(cfg, checkpoint, source)
    network, preprocess = load_backbone(checkpoint, source)
    if preprocess.mean is None:
        preprocess = _configured(cfg, preprocess, checkpoint)
    side = size or 224
    samples = []
    for path in named_images(images):
        batch = preprocess(path)
        samples.append(batch[..., :side, :side])
        if len(samples) == _CHECKED:
            break
    shapes = network.shapes
    return (
        network,
        samples,
        dict(
            task='backbone',
            architecture=network.description,
            bands=as_stored(preprocess.reading),
            mean=list(preprocess.mean or ()),
            std=list(preprocess.std or ()),
            output=[
                [
                    'batch',
                    shape.channels,
                    f'height / {shape.stride}',
                    f'width / {shape.stride}',
                ]
                for shape in shapes
            ],
        ),
    )


def _check_architecture(cfg: Config, checkpoint: Any, source: str) -> None:
    """Refuse a checkpoint with another backbone than the config has.

    Raises:
        CheckpointError: If it has; names both.
    """
    backbone = next(parts_named('backbone', cfg.get('model') or {}), None)
    if backbone is not None:
        with scope_of(cfg):
            module = MODELS.build(dict(backbone))
        match_backbone(module, checkpoint, source)


def _configured(cfg: Config, preprocess: Preprocess, checkpoint: Any) -> Preprocess:
    """The preprocessing of a config, for a checkpoint that tells none."""
    known = config_normalization(cfg)
    if not known:
        raise ExportError(
            f'neither {checkpoint} nor the config tells how images are normalised; set '
            'mean and std in the data_preprocessor of the config'
        )
    reading = first_reading(cfg, 'train') or first_reading(cfg, 'test')
    if reading is not None:
        bands = preprocess.reading.num_bands
        preprocess.reading = replace(reading, num_bands=bands, size=None)
    preprocess.mean, preprocess.std = known['mean'], known['std']
    return preprocess


def _model(
    cfg: Config, checkpoint: Any, images: Sequence[str | Path], size: int | None
) -> tuple[nn.Module, list[Tensor], dict[str, Any]]:
    """The network of a task, and real images, or windows, as it takes them."""
    inferencer = Inferencer(cfg, checkpoint)
    task, model = inferencer.task, inferencer.model
    if task.name == 'detection':
        raise ExportError(
            f'a {type(model).__name__} cannot be exported: its regions are of data-'
            "dependent number and its oriented operators are mmcv's own, which ONNX "
            'does not have; export its backbone alone (--backbone)'
        )
    network: nn.Module
    if task.name == 'classification':
        network, channels = Classifier(model), None
        more: dict[str, Any] = {}
    else:
        network, channels = Segmentor(model), model.out_channels
        more = dict(
            align_corners=model.align_corners,
            threshold=getattr(model.decode_head, 'threshold', None),
        )
    samples = list(islice(_samples(task, images, size or task.window), _CHECKED))
    if not samples:
        raise ExportError('none of the images to check the network on can be read')
    with torch.no_grad():
        outputs = network(samples[0])
    channels = outputs.shape[1]
    if task.name == 'classification':
        _check_scores(task, model, outputs, samples[0])
        task.set_classes(channels)
    reading = first_reading(cfg, 'test')
    preprocessor = model.data_preprocessor
    mean, std = (
        [
            float(value)
            for value in getattr(preprocessor, name, torch.empty(0)).flatten()
        ]
        for name in ('mean', 'std')
    )
    sides = ['height', 'width'] if outputs.ndim == 4 else []
    return (
        network,
        samples,
        dict(
            task=task.name,
            bands=None if reading is None else as_stored(reading),
            mean=mean,
            std=std,
            output=['batch', channels, *sides],
            classes=list(task.classes),
            palette=[list(map(int, colour)) for colour in task.palette],
            window=task.window,
            config=_config(cfg, model),
            **more,
        ),
    )


def _samples(task: Task, images: Sequence[str | Path], window: int) -> Any:
    """Images, and of larger ones windows, as the network gets them."""
    for item in task.find(images):
        image = task.open(item)
        parts: Sequence[Any] = [None]
        if window and max(image.height, image.width) > window:
            grid = WindowGrid(image.height, image.width, window, window // 4)
            parts = list(islice(grid.windows, 2))
        for part in parts:
            data = task.collate([task.sample(image, part).data])
            yield task.model.data_preprocessor(data, False)['inputs']


def _check_scores(task: Task, model: Any, logits: Tensor, inputs: Tensor) -> None:
    """Refuse heads that make other scores of their logits than softmax does."""
    with torch.no_grad():
        (sample,) = model(inputs, mode='predict')
    if not torch.allclose(sample.pred_score, logits[0].softmax(0), atol=1e-5):
        raise ExportError(
            f'a {type(model.head).__name__} cannot be exported: its scores are not the '
            'softmax of its logits; export the backbone alone (--backbone)'
        )


def _config(cfg: Config, model: Any) -> dict[str, Any]:
    """What of a config images go through, of JSON's types alone."""
    dataset = innermost_dataset(cfg, 'test')
    settings = dict(
        cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    )
    settings.setdefault('type', type(model.data_preprocessor).__name__)
    part = dict(
        default_scope=cfg.get('default_scope'),
        model=dict(data_preprocessor=settings, test_cfg=cfg.model.get('test_cfg')),
        test_dataloader=dict(
            collate_fn=cfg.test_dataloader.get('collate_fn'),
            dataset=dict(pipeline=image_pipeline(cfg), window=dataset.get('window')),
        ),
    )

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            named = dict(value)
            if 'type' in named and not isinstance(named['type'], str):
                named['type'] = type_name(named)  # configs that import their types
            return {key: plain(each) for key, each in named.items() if each is not None}
        if isinstance(value, (list, tuple)):
            return [plain(each) for each in value]
        return value

    return plain(part)


def _program(
    network: nn.Module, sample: Tensor, fixed: bool, target: Path
) -> torch.export.ExportedProgram:
    dynamic = getattr(torch.export.Dim, 'DYNAMIC', None)
    if dynamic is None:
        raise ExportError(
            f'{target}: files of torch.export need PyTorch 2.6 or later, found '
            f'{torch.__version__}; give a name in .onnx, or update PyTorch'
        )
    shape = {0: dynamic} if fixed else {0: dynamic, 2: dynamic, 3: dynamic}
    # A batch of one would be taken for a constant.
    batch = torch.cat([sample, sample.flip(-1)])
    try:
        with torch.no_grad():
            return torch.export.export(
                network, (batch,), dynamic_shapes=(shape,), strict=False
            )
    except Exception as error:  # torch has many
        raise ExportError(
            f'{target}: {type(network).__name__} cannot be exported by torch.export: '
            f'{" ".join(str(error).split())[:500]}'
        ) from error


def _save(program: torch.export.ExportedProgram, path: Path, task: str) -> None:
    if path.suffix == '.pt2':
        torch.export.save(program, path)
        return
    outputs = len(program.graph_signature.user_outputs)
    names = [f'stage_{i}' for i in range(outputs)] if task == 'backbone' else ['logits']
    with warnings.catch_warnings():
        # Of code of torch to itself, about copies that it makes of its own classes.
        warnings.filterwarnings('ignore', '.*treespec', FutureWarning)
        exported = torch.onnx.export(
            program,
            input_names=['images'],
            output_names=names,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert exported is not None
    exported.save(path, external_data=False)


@torch.no_grad()
def _check(
    network: nn.Module,
    exported: ExportedNetwork,
    samples: Sequence[Tensor],
    fixed: bool,
    target: Path,
) -> float:
    """Largest difference of the exported network's outputs on real images.

    Raises:
        ExportError: If it is above the tolerance.
    """
    batches = [*samples, torch.cat([samples[0]] * 3)]
    if not fixed:
        # Maps of one position are a case of their own to torch.export.
        sides = (s * 3 // 4 if s >= _LEAST else s for s in samples[0].shape[2:])
        height, width = sides
        batches.append(samples[0][..., :height, :width])
    largest = 0.0
    for batch in batches:
        expected = network(batch)
        expected = [expected] if isinstance(expected, Tensor) else expected
        for ours, theirs in zip(expected, exported(batch), strict=True):
            if ours.shape != theirs.shape:
                raise ExportError(
                    f'{target}: of {tuple(batch.shape)} the exported network makes '
                    f'{tuple(theirs.shape)}, the model {tuple(ours.shape)}; nothing '
                    'was written'
                )
            scale = max(1.0, float(ours.abs().max()))
            largest = max(largest, float((ours - theirs).abs().max()) / scale)
    if not largest <= TOLERANCE:
        raise ExportError(
            f'{target}: the exported network differs from the model by {largest:.2g} '
            f'of the largest value on the images, more than {TOLERANCE:g}; nothing '
            'was written'
        )
    return largest
