# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Several processes that share out the images of one command."""

from .trained_tasks import dump, files


def test_shards_write_what_one_process_writes(
    run, trained, data, tmp_path, monkeypatch, capsys
):
    cfg, checkpoint = trained('scene')
    config = dump(cfg, tmp_path / 'config.py')
    images = data / 'scene' / 'test'
    arguments = (config, checkpoint, images, '--batch-size', 3, '--out')
    assert run('predict.py', *arguments, tmp_path / 'whole') is None
    capsys.readouterr()
    # As torchrun starts two processes of the first of two machines, then by hand.
    monkeypatch.setenv('TORCHELASTIC_RUN_ID', 'none')
    monkeypatch.setenv('WORLD_SIZE', '2')
    for rank in '10':
        monkeypatch.setenv('RANK', rank)
        shard = ('--shard', '1/2')
        assert run('predict.py', *arguments, tmp_path / 'out', *shard) is None
    for name in ('TORCHELASTIC_RUN_ID', 'WORLD_SIZE', 'RANK'):
        monkeypatch.delenv(name)
    for shard in ('3/4', '4/4'):
        assert run('predict.py', *arguments, tmp_path / 'out', '--shard', shard) is None
    whole, out = tmp_path / 'whole', tmp_path / 'out'
    assert files(out) == files(whole)
    for name in files(out):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    told = capsys.readouterr().out
    assert f'results of 2 images to {out}' in told


def test_no_such_shard(run, trained, data, tmp_path):
    cfg, checkpoint = trained('scene')
    config = dump(cfg, tmp_path / 'config.py')
    arguments = (config, checkpoint, data / 'scene' / 'test')
    error = run('predict.py', *arguments, '--out', tmp_path / 'out', '--shard', '4/3')
    assert 'shard 4/3: expected which one of how many' in error
    assert not (tmp_path / 'out').exists()
