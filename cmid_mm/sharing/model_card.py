# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The page that says what published weights are, for people and for Hugging Face."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from .timm_names import TimmModel

#: What stands where nobody has said anything.
UNKNOWN = 'unknown'


@dataclass(frozen=True)
class Facts:
    """What no file tells of weights, but who trained them can.

    Attributes:
        data: Images of the pre-training: which, how many, from where.
        license: Of the weights, as Hugging Face calls it, such as ``'cc-by-4.0'``.
        bands: Names of the bands, in their order.
        resolution: Distance of pixels on the ground, such as ``'0.3 m'``.
        metrics: Name, value and the command that measured it.
    """

    data: str = UNKNOWN
    license: str = UNKNOWN
    bands: Sequence[str] = ()
    resolution: str = UNKNOWN
    metrics: Sequence[tuple[str, str, str]] = ()


@dataclass(frozen=True)
class PublishedFile:
    """One of the files of published weights.

    Attributes:
        name: Its name.
        layout: Whose names the weights have.
        sha256: Digest of its content.
        size: Bytes.
    """

    name: str
    layout: str
    sha256: str
    size: int


def model_card(
    title: str,
    meta: Mapping[str, Any],
    files: Sequence[PublishedFile],
    facts: Facts,
    timm: TimmModel | None,
) -> str:
    """The card, in Markdown.

    Args:
        title: Name of the weights.
        meta: That of the exported file.
        files: All files.
        facts: What the file does not tell.
        timm: The same network in timm, if there is one.
    """
    head = {
        'license': facts.license,
        'library_name': 'timm' if timm else 'cmid_mm',
        'pipeline_tag': 'image-feature-extraction',
        'tags': ['remote-sensing', 'self-supervised', 'image-feature-extraction'],
    }
    parts = [
        f'---\n{yaml.safe_dump(head, sort_keys=False)}---\n',
        f'# {title}\n',
        f'{meta.get("architecture", "Backbone")}: the {meta["network"]} network of '
        f'`{meta["source"]}` ({meta["origin"]}), without heads and optimiser.\n',
        '## Use\n',
        _usage(meta, files, timm),
        '## Images\n',
        _table(('', ''), _images(meta, facts)),
        '## Training\n',
        _table(('', ''), _training(meta, facts)),
        '## Metrics\n',
        _metrics(facts),
        '## Files\n',
        _table(
            ('file', 'names of', 'bytes', 'SHA-256'),
            [(f'`{f.name}`', f.layout, f'{f.size}', f'`{f.sha256}`') for f in files],
        ),
        '## Licence\n',
        f'Of the weights: {facts.license}. That of the images can differ.\n',
    ]
    return '\n'.join(parts)


def _usage(
    meta: Mapping[str, Any], files: Sequence[PublishedFile], timm: TimmModel | None
) -> str:
    blocks = []
    by_layout = {file.layout: file.name for file in files}
    name = files[0].name
    if 'backbone' in meta:
        blocks.append(
            'import cmid_mm\n\n'
            f"backbone, preprocess = cmid_mm.load_backbone('{name}')\n"
            "features = backbone(preprocess('image.tif'))  # a map of each stage"
        )
    if timm and (file := by_layout.get('timm')):
        options = ''.join(f', {key}={value}' for key, value in timm.options.items())
        # Of a ViT timm would give the last three blocks.
        blocks_of_vit = meta['backbone'].get('out_indices')
        stages = f', out_indices={blocks_of_vit}' if 'vit' in timm.name else ''
        blocks.append(
            'import timm\n\n'
            f"model = timm.create_model('{timm.name}', num_classes=0{options},\n"
            f"                          checkpoint_path='{file}')\n"
            '# maps of the stages, the last one before its norm\n'
            f"maps = timm.create_model('{timm.name}', features_only=True{stages},\n"
            f'                         pretrained=True{options},\n'
            f"                         pretrained_cfg_overlay=dict(file='{file}'))"
        )
        if timm.name.removeprefix('resnet').isdigit() and not options:
            blocks.append(
                'import torchvision\nfrom safetensors.torch import load_file\n\n'
                f'model = torchvision.models.{timm.name}()\n'
                f"model.load_state_dict(load_file('{file}'), strict=False)  # but fc"
            )
    if file := by_layout.get('mmpretrain'):
        blocks.append(
            '# in a config of mmpretrain\n'
            f"init_cfg = dict(type='Pretrained', checkpoint='{file}',\n"
            "                prefix='backbone.')"
        )
    blocks.append(
        '# in a config of mmpretrain, mmseg or mmdet\n'
        "custom_imports = dict(imports=['cmid_mm'])\n"
        f"init_cfg = dict(type='PretrainedBackbone', checkpoint='{name}')"
    )
    return '\n'.join(f'```python\n{block}\n```\n' for block in blocks)


def _images(meta: Mapping[str, Any], facts: Facts) -> list[tuple[str, str]]:
    reading = meta.get('reading') or {}
    names = ', '.join(facts.bands) or UNKNOWN
    taken = reading.get('bands')
    scale = reading.get('value_range') or 'the range of the integer type'
    gsd = reading.get('gsd')
    mean, std = (
        ', '.join(f'{value:.4g}' for value in meta[key]) if key in meta else UNKNOWN
        for key in ('mean', 'std')
    )
    return [
        ('bands', f'{meta.get("bands", UNKNOWN)}: {names}'),
        ('of the files', UNKNOWN if not reading else str(taken or 'all, in order')),
        ('values that become 0 and 255', str(scale) if reading else UNKNOWN),
        ('mean (0-255)', mean),
        ('standard deviation (0-255)', std),
        ('resolution', f'{gsd:g} m' if gsd else facts.resolution),
    ]


def _training(meta: Mapping[str, Any], facts: Facts) -> list[tuple[str, str]]:
    return [
        ('images', facts.data),
        ('run', str(meta.get('experiment', UNKNOWN))),
        ('epochs', str(meta.get('epoch', UNKNOWN))),
        ('iterations', str(meta.get('iter', UNKNOWN))),
        ('written with', f'cmid_mm {meta["cmid_mm_version"]}'),
    ]


def _metrics(facts: Facts) -> str:
    if not facts.metrics:
        return 'None was given.\n'
    rows = [(name, value, f'`{command}`') for name, value, command in facts.metrics]
    return _table(('metric', 'value', 'measured by'), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ['---'] * len(head), *rows]
    # A bar would begin another cell.
    cells = ([cell.replace('|', '\\|') for cell in line] for line in lines)
    return ''.join(f'| {" | ".join(line)} |\n' for line in cells)
