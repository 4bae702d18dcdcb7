# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The network that a backbone's weights belong to, told by the weights themselves."""

import os
from collections.abc import Mapping
from typing import Any

from .families import FAMILIES
from .finding import FoundBackbone
from .reading import CheckpointError
from .stored_images import meta_of, parts_named, stored_config


def network_config(
    found: FoundBackbone, content: Mapping[str, Any], path: str | os.PathLike[str]
) -> dict[str, Any]:
    """The config of the network of a backbone, with the outputs of all its stages.

    Nothing of it is a name that the file has chosen: types are those of the known
    families, and the settings that weights do not tell (heads of a ViT) are numbers.

    Args:
        found: The backbone.
        content: What the file held.
        path: The file, for messages.

    Returns:
        What ``MODELS.build`` takes.

    Raises:
        CheckpointError: If the family is not known, or the weights do not tell enough.
    """
    if found.layout is None or found.architecture is None:
        raise CheckpointError(
            f'{path} holds no backbone of a known family ({", ".join(FAMILIES)}); '
            'build the network and load it with cmid_mm.checkpoints.load_backbone'
        )
    family = FAMILIES[found.layout.family]
    if family.network is None:
        raise CheckpointError(
            f'{path} holds a {found.architecture}, which has to be built by its own '
            f"library: type='{family.type}', {family.settings(found.architecture)}"
        )
    try:
        return family.network(
            found.architecture, found.state, _stored_backbone(content)
        )
    except (AttributeError, KeyError, ValueError) as error:
        raise CheckpointError(
            f'{path}: the network cannot be told from its weights: {error}; build it '
            'and load it with cmid_mm.checkpoints.load_backbone'
        ) from error


def _stored_backbone(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings of the backbone, as the file tells them."""
    meta = meta_of(content)
    stored = next(parts_named('backbone', dict(cfg=stored_config(meta))), {})
    given = meta.get('backbone')
    return given if isinstance(given, Mapping) else stored
