# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""A folder with the backbone of a checkpoint, as others can take it."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..checkpoints.exporting import export_backbone
from ..checkpoints.reading import CheckpointError, read_checkpoint
from ..checkpoints.stored_images import meta_of
from ..files import sha256_of, this_process, write_bytes
from .model_card import Facts, PublishedFile, model_card
from .timm_names import TimmModel, timm_model

#: Hexadecimal digits of the digest in a file's name, as torch.hub checks them.
_DIGITS = 8
#: Side of the images in timm's settings, which its networks are tested with.
_SIDE = 224
#: How files may be named: their names stand in the code of the card.
_NAME = re.compile(r"""[^\x00-\x1f/\\'".-][^\x00-\x1f/\\'"]*""")
_SETTINGS = 'config.json'
_CARD = 'README.md'


def publish(
    checkpoint: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    name: str | None = None,
    source: str = 'student',
    layouts: Sequence[str] = (),
    facts: Facts | None = None,
) -> list[Path]:
    """Write the backbone of a checkpoint, its settings and its model card.

    Args:
        checkpoint: As for :func:`cmid_mm.checkpoints.export_backbone`.
        folder: Where to; made if it is not there.
        name: How the files' names begin. Defaults to None: the checkpoint's name.
        source: Which network: ``'student'`` or ``'teacher'``, ...
        layouts: Whose names weights get, each in a file of its own: ``'timm'``,
            ``'mmpretrain'``, ``'mmdet'``. Defaults to timm's if it has the family,
            else mmpretrain's.
        facts: For the card, what the file does not tell.

    Returns:
        What was written: the weights, ``config.json``, ``README.md``.

    Raises:
        CheckpointError: As of :func:`cmid_mm.checkpoints.export_backbone`.
        FileExistsError: If the folder holds another page or other weights.
        ValueError: If files cannot be named so, or bands differ in number.
    """
    facts = facts or Facts()
    folder = Path(folder)
    name = name or Path(checkpoint).stem
    if not _NAME.fullmatch(name):
        raise ValueError(
            f'the name {name!r} cannot begin the names of published files; expected '
            'one without slashes, quotes and line breaks, that begins with no . or -'
        )
    earlier = _published(folder)
    write = partial(_write, checkpoint, folder, name, source, earlier, facts)
    if layouts:
        written = [write(layout) for layout in layouts]
    else:
        try:
            written = [write('timm')]
        except CheckpointError:  # timm has no such names
            written = [write('mmpretrain')]
    files = [file for file, _ in written]
    meta = dict(written[0][1])
    run = meta_of(read_checkpoint(checkpoint, mmap=True, skip_objects=True))
    for key, given in (
        ('epoch', 'epoch'),
        ('iter', 'iter'),
        ('experiment', 'experiment_name'),
    ):
        if isinstance(run.get(given), (int, str)):
            meta[key] = run[given]
    timm = timm_model(meta['backbone']) if 'backbone' in meta else None
    config = _config(meta, files, facts, timm)
    texts = {
        _SETTINGS: json.dumps(config, indent=2) + '\n',
        _CARD: model_card(name, meta, files, facts, timm),
    }
    for file, text in texts.items():
        write_bytes(folder / file, text.encode())
    return [folder / file for file in (*(f.name for f in files), *texts)]


def _published(folder: Path) -> list[str]:
    """The weights that lie in a folder, as its settings name them.

    Raises:
        FileExistsError: If page or settings are of something else.
    """
    there = [folder / name for name in (_SETTINGS, _CARD) if (folder / name).exists()]
    if not there:
        return []
    try:
        return list(json.loads((folder / _SETTINGS).read_bytes())['cmid_mm']['files'])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileExistsError(
            f'{there[0]} is there already, and not of published weights; it would be '
            'replaced. Give a folder of its own'
        ) from error


def _write(
    checkpoint: str | os.PathLike[str],
    folder: Path,
    name: str,
    source: str,
    earlier: Sequence[str],
    facts: Facts,
    layout: str,
) -> tuple[PublishedFile, dict[str, Any]]:
    """Write the weights by the names of a library, and name the file by its digest."""
    part = folder / f'.{name}_{layout}.{this_process()}.safetensors'
    try:
        meta = export_backbone(checkpoint, part, layout, source)
        if facts.bands and len(facts.bands) != meta.get('bands', len(facts.bands)):
            raise ValueError(
                f'{checkpoint} takes {meta["bands"]} bands, but {len(facts.bands)} '
                f'names were given ({", ".join(facts.bands)}); give one for each'
            )
        digest, size = sha256_of(part), part.stat().st_size
        file = f'{name}_{layout}-{digest[:_DIGITS]}.safetensors'
        others = [each for each in earlier if f'_{layout}-' in each and each != file]
        if others:
            raise FileExistsError(
                f'{folder} holds other published weights ({", ".join(others)}), which '
                'its page would no longer name. Give a folder of its own'
            )
        part.replace(folder / file)
    finally:
        part.unlink(missing_ok=True)
    return PublishedFile(file, layout, digest, size), meta


def _config(
    meta: Mapping[str, Any],
    files: Sequence[PublishedFile],
    facts: Facts,
    timm: TimmModel | None,
) -> dict[str, Any]:
    """What programs read: timm's keys where it has the network, and all of ours."""
    config: dict[str, Any] = {}
    named = [file.name for file in files if file.layout == 'timm']
    if timm and named:
        side = timm.options.get('img_size', _SIDE)
        source = dict(
            hf_hub_filename=named[0],
            input_size=[meta['bands'], side, side],
            license=facts.license,
            num_classes=0,
        )
        for key in ('mean', 'std'):
            if key in meta:
                source[key] = [value / 255 for value in meta[key]]
        config = dict(
            architecture=timm.name,
            num_classes=0,
            model_args=timm.options,
            pretrained_cfg=source,
        )
    own = dict(
        meta,
        files={file.name: file.sha256 for file in files},
        band_names=list(facts.bands),
    )
    return dict(config, cmid_mm=own)
