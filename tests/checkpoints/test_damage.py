# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from cmid_mm.checkpoints import (
    CheckpointError,
    export_backbone,
    load_backbone,
    read_checkpoint,
)
from cmid_mm.checkpoints.damage import damaged_entry
from cmid_mm.checkpoints.inspection import inspect_checkpoint
from tests.engine.damage import change_a_byte, change_the_end


@pytest.fixture
def saved(tmp_path):
    file = tmp_path / 'a.pth'
    torch.save(dict(state_dict=dict(weight=torch.rand(9000))), file)
    assert damaged_entry(file) is None
    return file


def test_a_changed_byte_is_found_where_it_is(saved):
    change_a_byte(saved)
    assert torch.load(saved, weights_only=True)  # which looks at no checksum
    assert damaged_entry(saved) == 'a/data/0'
    assert damaged_entry(saved, contents=False) is None


def test_a_changed_directory_is_found_without_reading_the_rest(saved):
    change_the_end(saved)
    assert damaged_entry(saved, contents=False).startswith('the archive')


def test_every_byte_that_is_read_is_guarded(saved):
    """Of changes at random places none changes what is loaded unnoticed."""
    whole = saved.read_bytes()
    before = read_checkpoint(saved)['state_dict']['weight']
    generator = torch.Generator().manual_seed(0)
    for place in torch.randint(len(whole), (60,), generator=generator).tolist():
        changed = bytearray(whole)
        changed[place] ^= 0x10
        saved.write_bytes(changed)
        try:
            after = read_checkpoint(saved)['state_dict']['weight']
        except CheckpointError as error:
            assert str(saved) in str(error)
        else:
            assert torch.equal(before, after)


@pytest.mark.parametrize(
    'read',
    [
        read_checkpoint,
        lambda file: read_checkpoint(file, mmap=True),
        inspect_checkpoint,
        lambda file: load_backbone(torch.nn.Linear(2, 2), file),
        lambda file: export_backbone(file, file.with_suffix('.safetensors')),
    ],
)
def test_every_reader_refuses_by_name(saved, read):
    change_a_byte(saved)
    with pytest.raises(CheckpointError, match=r'a\.pth is damaged: .* a/data/0 '):
        read(saved)


def test_a_file_without_checksums_can_be_read(tmp_path):
    options = getattr(torch.serialization, 'set_crc32_options', None)
    if options is None:
        pytest.skip('this PyTorch always writes them')
    options(False)
    try:
        torch.save(dict(weight=torch.ones(3)), tmp_path / 'a.pth')
    finally:
        options(True)
    assert read_checkpoint(tmp_path / 'a.pth')['weight'].tolist() == [1, 1, 1]
