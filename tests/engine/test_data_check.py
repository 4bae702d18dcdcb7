# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from cmid_mm.engine.data_check import check_batches, check_data
from cmid_mm.preparation import PREPARATIONS
from tests.end_to_end.pretraining import toy_run, write_images


def config(root: object, prepared_by: str = 'potsdam') -> Config:
    dataset = dict(
        type='Any', data_root=str(root), data_prefix=dict(img_path='img', other=None)
    )
    return Config(
        dict(
            prepared_by=prepared_by,
            train_dataloader=dict(dataset=dict(type='RepeatDataset', dataset=dataset)),
            val_dataloader=None,
        )
    )


def test_the_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'img does not exist \(train_data'):
        check_data(config(tmp_path), 'train_dataloader')
    with pytest.raises(FileNotFoundError, match='nowhere does not exist'):
        check_data(config('nowhere'), 'train_dataloader')
    check_data(config('nowhere'), 'test_dataloader')  # the config has none
    check_data(config('s3://bucket/data'), 'train_dataloader')
    (tmp_path / 'img').mkdir()
    check_data(config(tmp_path), 'train_dataloader', 'val_dataloader')


@pytest.mark.parametrize('name', sorted(PREPARATIONS))
def test_a_known_data_set_says_how_to_get_it(name):
    with pytest.raises(FileNotFoundError) as error:
        check_data(config('here', prepared_by=name), 'train_dataloader')
    message = str(error.value)
    assert PREPARATIONS[name].url in message
    assert f'tools/prepare_data.py {name} SRC here' in message


@pytest.mark.parametrize('loop', ['ResumableTrainLoop', 'EpochBasedTrainLoop'])
def test_fewer_images_than_a_batch(tmp_path, loop):
    images = write_images(tmp_path / 'images', count=3)
    cfg = toy_run(images, tmp_path)
    cfg.train_cfg.type = loop
    cfg.train_dataloader.batch_size = 4
    message = r'3 images do not fill one batch of 4 images on 1 .*batch_size, or add'
    with pytest.raises(ValueError, match=message):
        check_batches(Runner.from_cfg(cfg).train_loop)
    cfg.train_dataloader.batch_size = 3
    cfg.experiment_name = 'fitting'
    check_batches(Runner.from_cfg(cfg).train_loop)
