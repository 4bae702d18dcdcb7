# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Putting a pre-trained backbone into a config's model."""

from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..checkpoints import LoadReport
from ..checkpoints.stems import STEM_RULES, Stem
from ..checkpoints.stored_images import compare_reading
from ..configs import first_reading


def stem_option(text: str) -> Stem:
    """What ``--stem`` of a command line asks for.

    Args:
        text: A rule of :data:`cmid_mm.checkpoints.stems.STEM_RULES`, or a band of the
            file for each band of the model, ``mean`` among them, such as
            ``'3,2,1,mean'``.

    Raises:
        ValueError: If it is neither.
    """
    if text in STEM_RULES:
        return text
    bands = text.split(',')
    if not all(band == 'mean' or band.isdecimal() for band in bands):
        raise ValueError(
            f'--stem {text}: expected {", ".join(STEM_RULES)}, or a band of the file '
            'for each band of the model, such as 3,2,1,mean'
        )
    return [None if band == 'mean' else int(band) for band in bands]


def set_backbone_checkpoint(
    cfg: Config,
    checkpoint: str,
    stem: Stem | None = None,
    source: str | None = None,
) -> None:
    """Initialise the model's backbone from a file, completely or not at all.

    Args:
        cfg (Config): The config, changed in place.
        checkpoint (str): Any file that ``PretrainedBackbone`` understands.
        stem: Its ``stem``. Defaults to None: other bands are refused.
        source: Its ``source``. Defaults to None: the network that was trained.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the model has no ``backbone`` or more than one, or would load
            something else over it.
    """
    if not Path(checkpoint).is_file():
        raise FileNotFoundError(f'--backbone-checkpoint {checkpoint} does not exist')
    path, parent = _parent_of_backbone(cfg)
    overwriting = {f'{path}.init_cfg': parent.get('init_cfg')}
    if path != 'model':
        overwriting['model.init_cfg'] = cfg.model.get('init_cfg')
    if not cfg.get('resume'):
        overwriting['load_from'] = cfg.get('load_from')
    for key, value in overwriting.items():
        if isinstance(value, dict):
            value = value.get('checkpoint')
        if value and isinstance(value, str):
            raise ValueError(
                f'--backbone-checkpoint: {key} of the config loads {value} over the '
                f'backbone; add --cfg-options {key}=None'
            )
    parent.backbone.init_cfg = dict(type='PretrainedBackbone', checkpoint=checkpoint)
    if stem is not None:
        parent.backbone.init_cfg.stem = stem
    if source is not None:
        parent.backbone.init_cfg.source = source
    # Stock configs may name other weights in this older place.
    parent.backbone.pop('pretrained', None)
    parent.pop('pretrained', None)


def compare_images(cfg: Config, report: LoadReport) -> None:
    """Say so if a config reads or normalises images otherwise than a backbone's run.

    Nothing is said of a backbone whose first kernel was made for other bands.

    Args:
        cfg: The config of the run that begins.
        report: What was loaded, with what the file tells of its images.
    """
    if report.stem:
        return
    compare_reading(report.path, report.reading, first_reading(cfg, 'train'))
    _compare_normalization(cfg, report.normalization)


def _parent_of_backbone(cfg: Config) -> tuple[str, Any]:
    """Path and config of the outermost part of the model that has a backbone."""
    level: dict[str, Any] = {'model': cfg.get('model') or {}}
    while level:
        found = [path for path, part in level.items() if 'backbone' in part]
        if len(found) == 1:
            return found[0], level[found[0]]
        if found:
            raise ValueError(
                '--backbone-checkpoint: the model has several backbones, '
                f'{" and ".join(f"{path}.backbone" for path in found)}; '
                f'{_BY_HAND} the one that is meant'
            )
        level = {
            f'{path}.{key}': part
            for path, whole in level.items()
            for key, part in whole.items()
            if isinstance(part, dict)
        }
    parts = [k for k, v in (cfg.get('model') or {}).items() if isinstance(v, dict)]
    raise ValueError(
        f"--backbone-checkpoint: the model has no 'backbone' among its parts "
        f'({", ".join(parts) or "none"}); {_BY_HAND} the one that is meant'
    )


_BY_HAND = (
    'in a config of your own, write '
    "init_cfg=dict(type='PretrainedBackbone', checkpoint=...) into"
)


def _compare_normalization(cfg: Config, pretraining: dict[str, list[float]]) -> None:
    """Say so if a config normalises images otherwise than the pre-training did."""
    path, part = 'data_preprocessor', cfg.get('data_preprocessor') or {}
    model_part: Any = cfg.model.get('data_preprocessor')
    if isinstance(model_part, dict):  # the runner prefers it
        path, part = f'model.{path}', model_part
    # Semi-supervised detectors wrap the one that normalises.
    while isinstance(part.get('data_preprocessor'), dict):
        path, part = f'{path}.data_preprocessor', part['data_preprocessor']
    own = {name: list(part.get(name) or []) for name in ('mean', 'std')}

    def text(values: list[float]) -> str:
        return f'[{",".join(f"{v:.8g}" for v in values)}]' if values else 'none'

    if not pretraining or own == pretraining:
        return
    written = [f"'{path}.{name}={text(pretraining[name])}'" for name in ('mean', 'std')]
    in_rgb = part.get('bgr_to_rgb') or part.get('to_rgb')
    print(
        'The backbone was pre-trained on images with '
        f'mean {text(pretraining["mean"])} and std {text(pretraining["std"])}, '
        f'this config normalises with mean {text(own["mean"])} and std '
        f'{text(own["std"])}. To normalise as in pre-training: '
        f'--cfg-options {" ".join(written)}'
        + ('' if in_rgb else ' (in RGB order; images read as BGR need bgr_to_rgb=True)')
    )
