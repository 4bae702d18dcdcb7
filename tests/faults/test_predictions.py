# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Data that fail while images are predicted."""

import time
from functools import partial

from cmid_mm import waiting
from cmid_mm.being_read import being_read
from cmid_mm.images import ImageFile
from tests.end_to_end.conftest import data, run, trained  # noqa: F401
from tests.end_to_end.pretraining import write_images
from tests.faults import forked
from tests.faults.rows import fault

PART = 'Data'


@fault(
    PART,
    'storage that stalls while images are predicted',
    'when a file has taken too long (here 2 s, by default 600 s) the command names it '
    'and ends with status 1; results are whole or not there',
)
def test_stalled_storage_of_a_prediction(run, trained, tmp_path, monkeypatch):  # noqa: F811
    cfg, checkpoint = trained('segmentation')
    cfg.dump(tmp_path / 'cfg.py')
    images, out = write_images(tmp_path / 'images', 3), tmp_path / 'out'
    load = ImageFile.load

    def stalled(self, *args, **kwargs):
        if self.path.name == '002.png':
            with being_read(self.path):
                time.sleep(600)
        return load(self, *args, **kwargs)

    monkeypatch.setattr(ImageFile, 'load', stalled)
    monkeypatch.setattr(waiting, 'reading_ends', partial(waiting.reading_ends, 2))
    args = 'predict.py', tmp_path / 'cfg.py', checkpoint, images, '--out', out
    process = forked.start(run, *args, log=tmp_path / 'log')
    process.join(120)
    process.kill()
    assert process.exitcode == 1
    assert '002.png is being read for 2 seconds' in (tmp_path / 'log').read_text()
    results = {path.name for path in out.iterdir()}
    assert not any(name.startswith('002') or 'part' in name for name in results)
