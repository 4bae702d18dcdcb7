# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The fine-tuned networks that were published with the CMID paper."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..configs import build_model, dataset_meta, load_config
from ..dependencies import __version__
from .families import Architecture, rename
from .families.naming import Names
from .finding import FoundBackbone, find_backbone
from .fitting import tell_differences
from .reading import CheckpointError


@dataclass(frozen=True)
class Network:
    """One of the published networks.

    Args:
        task: What it does, for messages.
        marks: Names of which a file of it has one.
        config: Our config of its row in the published tables; ``{}`` stands for the
            backbone.
        classifier: Our name of the weights with one row for each class.
        names: Names of its head and ours.
        unused: Weights, by our names, that the network does not compute with.
        resnet: How the name of the config calls ResNet-50.
        background: Rows of the classifier beside those of the classes.
        in_0_1: Whether its images were divided by 255 and not normalised further.
    """

    task: str
    marks: tuple[str, ...]
    config: str
    classifier: str
    names: Names = ()
    unused: str = '(?!)'
    resnet: str = 'r50'
    background: int = 0
    in_0_1: bool = False

    def num_classes(self, state: Mapping[str, Tensor]) -> int | None:
        """Number of classes in a state dict of it; None if it has no classifier."""
        classifier = rename(state, self.names).get(self.classifier)
        return None if classifier is None else len(classifier) - self.background


def _bit_block(old: str, new: str) -> Names:
    return (
        (f'{old}.#.0.norm', f'{new}.#.attention_norm'),
        *(
            (f'{old}.#.0.to_{letter}', f'{new}.#.attention.{part}')
            for letter, part in (('q', 'query'), ('k', 'key'), ('v', 'value'))
        ),
        (f'{old}.#.0.to_out.0', f'{new}.#.attention.output'),
        (f'{old}.#.1.norm', f'{new}.#.feedforward_norm'),
        (f'{old}.#.1.net.0', f'{new}.#.feedforward.0'),
        (f'{old}.#.1.net.3', f'{new}.#.feedforward.2'),
    )


#: What is recognised, in this order. The heads of mmcv 1.x have today's names: UperNet
#: and FCN of mmseg 0.x those of 1.x, Oriented R-CNN of mmrotate 0.3 those of mmdet's
#: FasterRCNN with mmrotate 1.x's parts.
NETWORKS = (
    Network(
        'change detector (BIT)',
        ('conv_a.weight',),
        'change_detection/bit_{}_cdd.py',
        'decode_head.conv_seg.weight',
        (
            ('pos_embedding', 'decode_head.position_embedding'),
            ('conv_pred', 'decode_head.reduce'),
            ('conv_a', 'decode_head.tokenizer'),
            *_bit_block('transformer.layers', 'decode_head.encoder'),
            *_bit_block('transformer_decoder.layers', 'decode_head.decoder'),
            ('classifier.0', 'decode_head.refine.conv'),
            ('classifier.1', 'decode_head.refine.bn'),
            ('classifier.3', 'decode_head.conv_seg'),
        ),
        # The head takes the map of the third stage.
        r'backbone\.(layer4|fc|stages\.3|stages\.2\.downsample|norm[013]|head)\.',
        in_0_1=True,
    ),
    Network(
        'detector (Oriented R-CNN)',
        ('roi_head.bbox_head.fc_cls.weight',),
        'detection/oriented-rcnn_{}_dota.py',
        'roi_head.bbox_head.fc_cls.weight',
        background=1,
    ),
    Network(
        'segmentor (UperNet)',
        ('decode_head.psp_modules.0.1.conv.weight',),
        'segmentation/upernet_{}_potsdam.py',
        'decode_head.conv_seg.weight',
    ),
    Network(
        'scene classifier',
        ('cls_head.weight', 'head.weight'),
        'classification/{}_ucmerced.py',
        'head.fc.weight',
        (('cls_head', 'head.fc'), ('head', 'head.fc')),
        # Norms of the maps of other stages, which a dense task takes
        r'backbone\.(norm[0-2]|fc|head)\.',
        'resnet50',
    ),
)
_BACKBONES = {'Swin': 'swin-b', 'RVSAViT': 'rvsa-vit-b', 'RVSAViTAE': 'rvsa-vitae-b'}


def recognize_network(names: Iterable[str]) -> Network | None:
    """Which of the published networks a state dict is; None if it is none."""
    names = set(names)
    for network in NETWORKS:
        if not names.isdisjoint(network.marks):
            return network
    return None


def convert_network(
    network: Network,
    meta: Any,
    state: Mapping[str, Any],
    path: str | os.PathLike[str],
    config: str | None = None,
) -> dict[str, Any]:
    """Give a published network the names that our config of it loads strictly.

    Args:
        network: Which one.
        meta: What the file says about it.
        state: Its state dict.
        path: The file, for messages.
        config: The config to convert for, if it is another than that of the published
            row.

    Returns:
        The checkpoint to write: ``meta`` with classes, bands and normalisation, and
        ``state_dict``.

    Raises:
        CheckpointError: If a weight of the config's model is missing, left over or of
            another shape, or its classes or its normalisation are others.
    """
    state = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    found = find_backbone(state, path)
    architecture = found.architecture
    if architecture is None:
        raise CheckpointError(
            f'{path} holds a {network.task} with a backbone of no known family; '
            'expected ResNet-50, Swin-B, ViT-B-RVSA or ViTAE-B-RVSA'
        )
    if config is None:
        config = f'cmid_mm::{_published_config(network, architecture, path)}'
    cfg = load_config(config)
    with _WithoutNumbers():
        model = build_model(cfg)
    own = model.state_dict()
    weights, left_out = _rename(network, found, state)
    _add_place_of_class_token(weights, own)
    classes = dataset_meta(cfg, {})
    problems = [
        *_check_classes(network, meta, weights, own, classes),
        *_check_normalization(network, cfg),
        *_check_weights(weights, own),
    ]
    if problems:
        raise CheckpointError(
            f'{path} holds a {network.task} that {config} does not fit, nothing was '
            f'converted: {"; ".join(problems)}. Give a config of your own with what '
            'differs: --config'
        )
    mean, std = _normalization(cfg)
    repeats = architecture.bands if len(mean) == 1 else 1
    written = dict(
        source=Path(path).name,
        origin=f'published CMID {network.task}',
        architecture=str(architecture),
        bands=architecture.bands,
        mean=mean * repeats,
        std=std * repeats,
        config=config,
        dataset_meta=classes,
        left_out=left_out,
        cmid_mm_version=__version__,
    )
    return dict(meta=written, state_dict=weights)


class _WithoutNumbers(TorchFunctionMode):
    """Models built in it have names and shapes, but no memory for weights."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Make empty tensors, which is what layers fill, on no device."""
        kwargs = dict(kwargs or {})
        if func is torch.empty:
            kwargs['device'] = 'meta'
        return func(*args, **kwargs)


def _published_config(
    network: Network, architecture: Architecture, path: str | os.PathLike[str]
) -> str:
    if architecture.resnet_depth == 50:
        return network.config.format(network.resnet)
    if architecture.family in _BACKBONES:
        return network.config.format(_BACKBONES[architecture.family])
    raise CheckpointError(
        f'{path} holds a {network.task} with {architecture}, and no such row was '
        'published; expected ResNet-50, Swin-B, ViT-B-RVSA or ViTAE-B-RVSA. Give a '
        'config of your own with this backbone: --config'
    )


def _rename(
    network: Network, found: FoundBackbone, state: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """Weights by our names, and the names of those that are not computed with."""
    heads: dict[str, Tensor] = {}
    for name, value in state.items():
        if found.prefix and name.startswith(found.prefix):
            continue
        if not found.prefix and name in found.state and not name.startswith('head.'):
            continue
        # BIT wraps its layers; one matrix of its encoder has queries, keys and values.
        name = re.sub(r'\.fn(?=\.)', '', name)
        if name.endswith('.to_qkv.weight'):
            parts = value.chunk(3)
            stem = name.removesuffix('qkv.weight')
            heads |= {f'{stem}{x}.weight': p for x, p in zip('qkv', parts, strict=True)}
        else:
            heads[name] = value
    weights = {f'backbone.{name}': value for name, value in found.state.items()}
    weights |= rename(heads, network.names)
    left_out = [name for name in weights if re.match(network.unused, name)]
    for name in left_out:
        del weights[name]
    return weights, left_out


def _add_place_of_class_token(
    weights: dict[str, Tensor], own: Mapping[str, Tensor]
) -> None:
    """RVSA's networks of dense tasks keep no place for it; it is not in use."""
    name = 'backbone.pos_embed'
    if name in weights and name in own:
        table = weights[name]
        if table.shape[1] + 1 == own[name].shape[1]:
            weights[name] = torch.cat((torch.zeros_like(table[:, :1]), table), 1)


def _check_classes(
    network: Network,
    meta: Any,
    weights: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    dataset: Mapping[str, Any],
) -> list[str]:
    """Compare numbers and names of classes; empty if they are the same."""
    if network.classifier not in weights or network.classifier not in own:
        return []  # told with the other weights
    count, expected = (
        len(state[network.classifier]) - network.background for state in (weights, own)
    )
    if count != expected:
        return [f'classes: {count} in the file, {expected} in the config']
    saved = meta.get('CLASSES') if isinstance(meta, Mapping) else None
    if not saved:
        return []
    names, ours = (
        [re.sub(r'[\W_]', '', str(name)).lower() for name in classes]
        for classes in (saved[:count], dataset.get('classes') or ())
    )
    if names == ours:
        return []
    return [
        f'classes: {", ".join(saved)} in the file, '
        f'{", ".join(dataset.get("classes") or ["unnamed"])} in the config, which must '
        'be the same in the same order'
    ]


def _normalization(cfg: Config) -> tuple[list[float], list[float]]:
    settings = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    return list(settings.get('mean') or []), list(settings.get('std') or [])


def _check_normalization(network: Network, cfg: Config) -> list[str]:
    mean, std = _normalization(cfg)
    if not network.in_0_1 or (set(mean) == {0} and set(std) == {255}):
        return []
    return [
        'normalisation: the network takes values divided by 255 and nothing else; set '
        f'model.data_preprocessor.mean=[0.0] and std=[255.0], not {mean} and {std}'
    ]


def _check_weights(
    weights: Mapping[str, Tensor], own: Mapping[str, Tensor]
) -> list[str]:
    problems = tell_differences(weights, own)
    if 'backbone.norm.weight' in weights.keys() - own.keys():
        problems.append(
            'the backbone of the file has a norm behind its last block: '
            'model.backbone.final_norm=True, and out_indices as it was trained, such '
            'as (11, 11, 11, 11)'
        )
    return problems
