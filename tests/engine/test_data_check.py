# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import pytest
from mmengine.config import Config

from cmid_mm.engine.data_check import check_data
from cmid_mm.preparation import PREPARATIONS


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


def test_existing_folders_pass(tmp_path):
    (tmp_path / 'img').mkdir()
    check_data(config(tmp_path), 'train_dataloader', 'val_dataloader')
    check_data(config('s3://bucket/data'), 'train_dataloader')


def test_the_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'img does not exist \(train_data'):
        check_data(config(tmp_path), 'train_dataloader')
    with pytest.raises(FileNotFoundError, match='nowhere does not exist'):
        check_data(config('nowhere'), 'train_dataloader')
    check_data(config('nowhere'), 'test_dataloader')


@pytest.mark.parametrize('name', sorted(PREPARATIONS))
def test_a_known_data_set_says_how_to_get_it(name):
    with pytest.raises(FileNotFoundError) as error:
        check_data(config('here', prepared_by=name), 'train_dataloader')
    message = str(error.value)
    assert PREPARATIONS[name].url in message
    assert f'tools/prepare_data.py {name} SRC here' in message
