# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""From the downloads of public data sets to the folders that the configs read."""

from .change import CDDPreparation, LEVIRPreparation
from .dior import DIORRPreparation
from .dota import DOTAMultiScalePreparation, DOTAPreparation
from .errors import PreparationError
from .isprs import PotsdamPreparation, VaihingenPreparation
from .loveda import LoveDAPreparation
from .preparation import Preparation, prepare
from .scenes import (
    AIDPreparation,
    EuroSATPreparation,
    RESISC45Preparation,
    UCMercedPreparation,
)
from .sources import SourceFile, source_files

_KINDS: tuple[type[Preparation], ...] = (
    UCMercedPreparation,
    AIDPreparation,
    RESISC45Preparation,
    EuroSATPreparation,
    PotsdamPreparation,
    VaihingenPreparation,
    LoveDAPreparation,
    DOTAPreparation,
    DOTAMultiScalePreparation,
    DIORRPreparation,
    CDDPreparation,
    LEVIRPreparation,
)

#: All data sets, by their name on the command line.
PREPARATIONS: dict[str, type[Preparation]] = {kind.name: kind for kind in _KINDS}

__all__ = [
    'PREPARATIONS',
    'Preparation',
    'PreparationError',
    'SourceFile',
    'prepare',
    'source_files',
]
