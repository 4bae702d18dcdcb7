# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from mmengine.config import Config
from torch import nn

from cmid_mm.embeddings.encoder import Encoder, load_encoder
from tests.toy import toy_config, toy_model


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """Config and checkpoint of a pre-training on five bands, and its model."""
    model = toy_model(bands=5).eval()
    path = tmp_path_factory.mktemp('run') / 'run.pth'
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)
    loading = dict(type='LoadImagery', bands=[1, 2, 3, 4, 6], value_range=(0, 3000))
    cfg = Config(
        dict(
            default_scope='mmpretrain',
            model=toy_config(bands=5),
            train_dataloader=dict(
                dataset=dict(type='SceneDataset', pipeline=[loading])
            ),
        )
    )
    return cfg, path, model


def test_vectors_of_a_pretraining(run):
    """Those by which its features are evaluated, read as its images are."""
    cfg, path, model = run
    loaded = load_encoder(cfg, path, unit=False)
    assert loaded.reading.bands == (1, 2, 3, 4, 6)
    assert loaded.reading.num_bands == 5
    images = torch.randint(0, 256, (2, 5, 64, 96)).byte()
    with torch.no_grad():
        vectors = loaded.encoder.pool(loaded.encoder.maps(images))
    assert torch.allclose(vectors, model.extract_feats(images), atol=1e-6)


def test_stages_and_digests(run):
    """A stage is that of the backbone; whatever changes vectors changes the digest."""
    cfg, path, model = run
    last = load_encoder(cfg, path)
    second = load_encoder(cfg, path, stage=2)
    images = torch.randint(0, 256, (1, 5, 64, 64)).byte()
    with torch.no_grad():
        assert second.encoder.maps(images).shape == (1, 16, 8, 8)
        fourth = load_encoder(cfg, path, stage=4).encoder.maps(images)
        assert torch.allclose(fourth, last.encoder.maps(images), atol=1e-6)
    others = [
        load_encoder(cfg, path, **options)
        for options in (dict(pooling='gem'), dict(unit=False), dict(size=64))
    ]
    digests = {each.digest for each in (last, second, *others)}
    assert len(digests) == 5 and load_encoder(cfg, path).digest == last.digest
    with pytest.raises(ValueError, match='stage 5: the backbone has stages 1 to 4'):
        load_encoder(cfg, path, stage=5)


def test_colours_as_the_backbone_takes_them():
    backbone = nn.Identity()
    encoder = Encoder(backbone, [1.0, 2.0, 3.0], [1.0, 1.0, 2.0], blue_first=True)
    red = torch.zeros(1, 3, 1, 1)
    red[:, 0] = 7
    assert encoder.maps(red).flatten().tolist() == [-1, -2, 2]
