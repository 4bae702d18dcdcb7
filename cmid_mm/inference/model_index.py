# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Our models among those that mmpretrain knows by name."""

import functools
from pathlib import Path

from mmengine.fileio import load
from mmpretrain.apis.model import ModelHub

#: Folders of configs whose models mmpretrain can build.
FOLDERS = ('cmid', 'baselines', 'classification')


def register_models(folder: Path) -> None:
    """Let ``mmpretrain.list_models`` and ``get_model`` know the configs of a folder.

    Args:
        folder: It has ``configs`` with a ``metafile.yml`` for each kind of model.
    """
    for name in FOLDERS:
        metafile = folder / 'configs' / name / 'metafile.yml'
        if metafile.is_file():
            ModelHub.register_model_index(metafile, config_prefix=folder)


@functools.cache
def config_files() -> dict[str, Path]:
    """The config of each model, whichever package builds it, by its name."""
    metafiles = ROOT.glob('configs/*/metafile.yml')
    listed = [load(file)['Models'] for file in metafiles]
    return {model['Name']: ROOT / model['Config'] for part in listed for model in part}


_PACKAGE = Path(__file__).parents[1]
_INSTALLED = _PACKAGE / '.mim'
#: The folder of configs: of the wheel, or of a checkout.
ROOT = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent
register_models(ROOT)
