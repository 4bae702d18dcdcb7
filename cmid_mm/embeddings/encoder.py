# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The network that makes vectors of windows, with its own way of reading images."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.utils import import_modules_from_strings
from torch import Tensor, nn

from ..checkpoints.fitting import load_weights
from ..checkpoints.stored_images import as_stored, compare_reading, stored_reading
from ..configs import build_model, first_reading, innermost_dataset, type_name
from ..images import Reading
from ..inference.saving import weights_digest
from ..models.measuring import feature_map, unmasked
from ..sharing import load_backbone

#: How a feature map becomes a vector.
POOLINGS = ('mean', 'max', 'gem')
#: Exponent of the generalised mean, as Radenovic et al. (2018) begin with.
_GEM = 3.0


class Encoder(nn.Module):
    """A backbone that takes images on the 0-255 scale.

    Args:
        backbone: Gives feature maps.
        mean: Of each band, 0-255.
        std: Of each band, likewise.
        stage: Which of its maps is used. Defaults to the last.
        pooling: One of :data:`POOLINGS`.
        unit: Whether vectors have length 1. Defaults to True.
        blue_first: Whether the backbone takes blue first; images come red first.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        stage: int = -1,
        pooling: str = 'mean',
        unit: bool = True,
        blue_first: bool = False,
    ) -> None:
        super().__init__()
        if pooling not in POOLINGS:
            raise ValueError(f'pooling {pooling!r} is none of {", ".join(POOLINGS)}')
        self.backbone = backbone
        self.stage = stage
        self.pooling = pooling
        self.unit = unit
        self.blue_first = blue_first
        for name, values in (('mean', mean), ('std', std)):
            self.register_buffer(name, torch.tensor(values).float().view(1, -1, 1, 1))

    def maps(self, images: Tensor) -> Tensor:
        """Feature maps (B, D, h, w) of images (B, C, H, W)."""
        images = images.flip(1) if self.blue_first else images
        normalized = (images.float() - self.mean) / self.std
        return feature_map(unmasked(self.backbone, normalized), self.stage).float()

    def pool(self, maps: Tensor, missing: Tensor | None = None) -> Tensor:
        """Vectors (B, D) of feature maps.

        Args:
            maps: (B, D, h, w).
            missing: Pixels without data, bool (B, H, W). Positions count as far as
                the pixels that they cover hold data.
        """
        weights = maps.new_ones(maps.shape[0], 1, *maps.shape[2:])
        if missing is not None:
            height, width = maps.shape[2:]
            known = (~missing[:, None]).float()
            held = F.adaptive_avg_pool2d(known, (height, width))
            # Few pixels may hold data without filling any position of a coarse map.
            some = held.amax((2, 3), keepdim=True) > 0
            weights = torch.where(some, held, 1.0)
        if self.pooling == 'max':
            vectors = maps.masked_fill(weights == 0, -torch.inf).amax((2, 3))
        else:
            power = _GEM if self.pooling == 'gem' else 1.0
            values = maps if power == 1 else maps.clamp(min=1e-6).pow(power)
            total = (values * weights).sum((2, 3)) / weights.sum((2, 3))
            vectors = total if power == 1 else total.pow(1 / power)
        return F.normalize(vectors, dim=1) if self.unit else vectors

    @torch.no_grad()
    def test_step(self, batch: dict[str, Any]) -> list[dict[str, Any]]:
        """Vectors of a batch, as the test step of a model gives its predictions."""
        images = torch.stack(batch['inputs']).to(self.mean.device)
        missing = None
        if any(mask is not None for mask in batch['missing']):
            missing = torch.stack(
                [
                    torch.zeros(images.shape[2:], dtype=torch.bool)
                    if mask is None
                    else torch.from_numpy(mask)
                    for mask in batch['missing']
                ]
            ).to(images.device)
        maps = self.maps(images)
        vectors = self.pool(maps, missing).cpu().numpy()
        return [
            dict(vector=vector, map=each, valid=share)
            for vector, each, share in zip(vectors, maps, batch['valid'], strict=True)
        ]


class LoadedEncoder(NamedTuple):
    """What :func:`load_encoder` returns.

    Attributes:
        encoder: In evaluation mode.
        reading: How its images are read, of any size.
        digest: Tells the vectors of this encoder from those of others.
    """

    encoder: Encoder
    reading: Reading
    digest: str


def load_encoder(
    cfg: Config,
    checkpoint: str | Path,
    stage: int | None = None,
    pooling: str = 'mean',
    unit: bool = True,
    size: int | None = None,
) -> LoadedEncoder:
    """The encoder of a config and a checkpoint.

    Args:
        cfg: Of a pre-training or of any task.
        checkpoint: Of a run with it; has to fit completely.
        stage: Which feature map, from 1; needs a backbone of a family that
            :func:`cmid_mm.load_backbone` knows. Defaults to None, the last one.
        pooling: One of :data:`POOLINGS`.
        unit: Whether vectors have length 1. Defaults to True.
        size: Side of the square to which windows are resized. Defaults to None, as
            they are.

    Raises:
        CheckpointError: If the checkpoint does not fit.
        ValueError: If the config has no model or no images, or the stage is none.
    """
    if cfg.get('custom_imports'):
        import_modules_from_strings(**cfg.custom_imports)
    if 'model' not in cfg:
        raise ValueError('the config has no model; give that of a run')
    model = build_model(cfg)
    stored = stored_reading(dict(meta=load_weights(model, checkpoint)))
    split = 'test' if cfg.get('test_dataloader') else 'train'
    reading = first_reading(cfg, split) or stored
    if reading is None:
        raise ValueError(
            f'the {split}_dataloader of the config begins with no step that loads '
            'images (LoadImagery, LoadImagePair, LoadImageFromFile)'
        )
    compare_reading(checkpoint, stored, reading)
    backbone = getattr(model, 'student', model).backbone
    which = -1
    if stage is not None:
        backbone = load_backbone(checkpoint).backbone
        which = stage - 1
        if not 0 <= which < len(backbone.shapes):
            raise ValueError(
                f'stage {stage}: the backbone has stages 1 to {len(backbone.shapes)}'
            )
    prepare = model.data_preprocessor
    bands = reading.num_bands
    known = [getattr(prepare, name, None) for name in ('mean', 'std')]
    mean, std = (
        [plain] * bands if values is None else values.flatten().tolist()
        for values, plain in zip(known, (0.0, 1.0), strict=True)
    )
    if len(mean) == 2 * bands:  # of a pair of dates
        mean, std = mean[:bands], std[:bands]
    if len(mean) not in (1, bands):
        raise ValueError(
            f'the model takes {len(mean)} bands, but the config reads {bands}'
        )
    encoder = Encoder(
        backbone,
        mean,
        std,
        which,
        pooling,
        unit,
        _takes_blue_first(cfg, split, prepare),
    ).eval()
    reading = replace(reading, size=size)
    told = dict(
        weights=weights_digest(encoder),
        stage=stage,
        pooling=pooling,
        unit=unit,
        blue_first=encoder.blue_first,
        reading=as_stored(reading),
    )
    text = json.dumps(told, sort_keys=True)
    digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    return LoadedEncoder(encoder, reading, digest)


def _takes_blue_first(cfg: Config, split: str, prepare: Any) -> bool:
    """Whether the backbone gets colours as OpenCV orders them."""
    first = type_name(innermost_dataset(cfg, split)['pipeline'][0])
    names = ('channel_conversion', '_channel_conversion', 'to_rgb')
    exchanged = any(getattr(prepare, name, False) for name in names)
    return (first == 'LoadImageFromFile') != exchanged
