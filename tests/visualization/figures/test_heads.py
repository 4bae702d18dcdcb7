# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Figures of CMID's heads: reconstruction, its spectra, and prototypes."""

import numpy as np
import pytest
import torch
from mmengine.config import Config

from cmid_mm.visualization.figures import (
    FigureEncoder,
    prototypes_figure,
    reconstruction_figure,
    spectra_figure,
)
from cmid_mm.visualization.figures.prototypes import usage_of
from cmid_mm.visualization.figures.reconstruction import (
    masked_batch,
    masking_of,
    reconstructions,
)
from cmid_mm.visualization.figures.spectra import checkpoints_of, radial_power
from tests.toy import toy_model

from .made import colour_encoder, colours, write_cells

CONFIG = Config(
    dict(
        train_dataloader=dict(
            dataset=dict(
                pipeline=[
                    dict(type='LoadImagery'),
                    dict(type='MaskPair', size=64, ratio=0.5, share=0.5),
                ]
            )
        )
    )
)


@pytest.fixture(scope='module')
def toy():
    return FigureEncoder(toy_model())


def test_images_are_cut_to_the_views(tmp_path):
    cells = colours(4, 5)
    large = write_cells(tmp_path / 'large.png', cells)
    small = write_cells(tmp_path / 'small.png', cells[:1, :1])
    batch = masked_batch(colour_encoder(), [large, small], masking_of(CONFIG))
    assert batch['inputs'].shape == (2, 2, 3, 64, 64)
    # The middle, of whole cells one way and of halves the other way.
    expected = cells[1:3, 1:4].repeat(32, 0).repeat(32, 1)[:, 16:-16]
    assert (batch['inputs'][0, 0].permute(1, 2, 0).numpy() == expected).all()
    assert (batch['inputs'][1, 0, :, 0, 0].numpy() == cells[0, 0]).all()
    # All of them are masked, half of their cells, and each time the same ones.
    assert (batch['masks'].sum((2, 3)) == 2).all()
    again = masked_batch(colour_encoder(), [large, small], masking_of(CONFIG))
    assert (again['masks'] == batch['masks']).all()
    with pytest.raises(ValueError, match='has no MaskPair'):
        masking_of(Config(dict(train_dataloader=None)))


def test_reconstruction_of_an_image_is_its_own(tmp_path, toy):
    paths = [write_cells(tmp_path / f'{i}.png', colours(2, 2, i)) for i in (0, 1)]
    masking = masking_of(CONFIG)
    both = reconstructions(toy, masked_batch(toy, paths, masking))
    one = reconstructions(toy, masked_batch(toy, paths[:1], masking))
    torch.testing.assert_close(both['reconstruction'][:1], one['reconstruction'])
    figure = reconstruction_figure(toy, paths, masking)
    titles = [ax.get_title() for ax in figure.axes[:5]]
    assert titles[:4] == ['input', 'masked', 'decoder', 'filled in']
    shown = np.asarray(figure.axes[0].images[0].get_array())
    assert (shown == colours(2, 2, 0).repeat(32, 0).repeat(32, 1)).all()
    # The mean of what the last column shows, the masked half.
    error = np.ma.masked_invalid(figure.axes[4].images[0].get_array())
    assert error.count() == 64 * 64 / 2
    assert titles[4] == f'error: {error.mean():.1f}'


@pytest.mark.parametrize(
    ('draw', 'message'),
    [
        (
            lambda encoder, paths: reconstruction_figure(
                encoder, paths, masking_of(CONFIG)
            ),
            'no head named reconstruction|sets no head named reconstruction',
        ),
        (prototypes_figure, 'has no prototypes: .* no AssignmentHead'),
    ],
    ids=['reconstruction', 'prototypes'],
)
def test_a_head_that_is_not_there(tmp_path, draw, message):
    path = write_cells(tmp_path / 'a.png', colours(2, 2))
    with pytest.raises(ValueError, match=message):
        draw(FigureEncoder(toy_model(heads={})), [path])


def test_power_of_a_wave_is_at_its_frequency():
    along = torch.arange(32) / 32
    wave = torch.cos(2 * torch.pi * 3 * along).expand(2, 1, 32, 32)
    power = radial_power(wave)
    assert power.shape == (17,)
    assert power.argmax() == 3 and power[3] > 1e6 * np.delete(power, 3).max()
    # Two of the frequencies at this distance have all of it, 512 in sum.
    near = torch.fft.fftfreq(32) * 32
    count = int((torch.hypot(near[:, None], near).round() == 3).sum())
    assert power[3] == pytest.approx(512 / count)


def test_spectra_of_checkpoints_in_their_order(tmp_path):
    for name in ('epoch_10.pth', 'epoch_2.pth', 'iter_5.pth'):
        (tmp_path / name).touch()
    found = checkpoints_of([tmp_path])
    assert list(found) == ['epoch 2', 'epoch 10']
    assert list(checkpoints_of([tmp_path / 'iter_5.pth'])) == ['iter 5']
    (tmp_path / 'none').mkdir()
    with pytest.raises(FileNotFoundError, match='has no epoch_'):
        checkpoints_of([tmp_path / 'none'])
    images = torch.randn(1, 3, 16, 16)
    made = {
        label: dict(target=images, reconstruction=images * share)
        for label, share in (('epoch 2', 0.5), ('epoch 10', 0.9))
    }
    figure = spectra_figure(made)
    power, distance = ([line.get_ydata() for line in ax.lines] for ax in figure.axes)
    assert [line.get_label() for line in figure.axes[0].lines][-1] == 'images'
    np.testing.assert_allclose(power[0], 0.25 * power[2], rtol=1e-5)
    np.testing.assert_allclose(distance[1], 0.01 * power[2], rtol=1e-4)
    # The entries of a legend in rows of about the same length.
    made |= {f'epoch {n}': made['epoch 2'] for n in (11, 12)}
    assert spectra_figure(made).legends[0]._ncols == 3


def test_usage_of_prototypes():
    assignments = torch.zeros(6, 8)
    assignments[range(6), [0, 0, 0, 1, 2, 3]] = 1
    usage = usage_of([assignments[:2], assignments[2:]])
    assert usage.taken.tolist() == [3, 1, 1, 1, 0, 0, 0, 0]
    # Of the six that six cells can have, four are used.
    assert usage.used == pytest.approx(4 / 6)
    # exp of the entropy of 3, 1, 1 and 1 of six
    assert usage.effective == pytest.approx(12**0.5)
    assert usage_of([torch.eye(8)]).effective == pytest.approx(8)


def test_a_figure_of_prototypes_counts_all_cells(tmp_path, toy):
    paths = [write_cells(tmp_path / f'{i}.png', colours(3, 2, i)) for i in (0, 1)]
    figure = prototypes_figure(toy, paths, count=2, examples=3)
    usage = figure.axes[-1]
    text = usage.figure.get_suptitle()
    assert 'of 32 prototypes take one of 12 cells' in text
    assert usage.lines[0].get_ydata().sum() == pytest.approx(100)
    shares = [ax.get_ylabel() for ax in figure.axes[:-1:3]]
    assert all(label.endswith(' %') for label in shares)
