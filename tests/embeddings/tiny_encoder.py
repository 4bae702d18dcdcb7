# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""An encoder of one convolution, and its task."""

import torch
from torch import nn

from cmid_mm.embeddings.encoder import Encoder, LoadedEncoder
from cmid_mm.embeddings.task import Embedding
from cmid_mm.images import Reading

STRIDE = 4


class OneConvolution(nn.Module):
    """A map of eight channels, a position for each 4 x 4 pixels."""

    def __init__(self, bands: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(bands, 8, STRIDE, stride=STRIDE)
        #: Number of calls after which it fails.
        self.fails_after: int | None = None
        self.calls = 0

    def forward(self, images):
        if self.calls == self.fails_after:
            raise RuntimeError('stopped')
        self.calls += 1
        return (self.layer(images),)


def loaded(**options) -> LoadedEncoder:
    """This encoder, for images of three bands."""
    mean, std = [100.0, 110.0, 120.0], [40.0, 50.0, 60.0]
    encoder = Encoder(OneConvolution(), mean, std, **options).eval()
    return LoadedEncoder(encoder, Reading(), 'one')


def embedding(min_valid: float = 0.0, **options) -> Embedding:
    """The task with this encoder."""
    return Embedding(loaded(**options), min_valid)
