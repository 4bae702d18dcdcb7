# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Results of images of any size as files, and what a stop leaves of them."""

import contextlib
import os
import random
import signal
import time

import cv2
import numpy as np
import pytest
import rasterio

from cmid_mm.images import NoValidPixelError, notices
from cmid_mm.images.strips import UnwrittenRasterError
from cmid_mm.inference import saving
from cmid_mm.inference.saving import Saver
from cmid_mm.inference.segmentation import Probabilities
from tests.full_disk import full_disk

from .tiny_segmentation import change_detection, segmentation, write_raster

SIZE = 150, 118
WINDOWS = dict(window=40, overlap=12, batch_size=4)


@pytest.fixture
def image(tmp_path):
    return write_raster(tmp_path / 'scene.tif', *SIZE)


@pytest.fixture
def said(monkeypatch):
    messages = []
    monkeypatch.setattr(saving, 'say', messages.append)
    return messages


def save(task, folder, images, settings=None, **options):
    saver = Saver(task, folder, settings or {'checkpoint': 'a'})
    return list(saver.predict(images, **WINDOWS | options))


def contents(folder):
    return {
        path.name: path.read_bytes() for path in folder.rglob('*') if path.is_file()
    }


def read(path):
    with rasterio.open(path) as source:
        return source.read()


def test_files_equal_the_result_in_memory(tmp_path, image):
    task = segmentation()
    task.probabilities = Probabilities('classes', 16)
    (saved,) = save(task, tmp_path / 'out', [image])
    names = ['scene_overlay.jpg', 'scene_prob.tif', 'scene.tif']
    assert [file.name for file in saved.files] == names
    (result,) = task.predict([image], **WINDOWS | {'batch_size': 3})
    mask = read(tmp_path / 'out' / 'scene.tif')[0]
    assert (mask == result.mask).all()
    assert set(np.unique(mask)) == {0, 1, 2, 255}
    assert (mask[60:100, 30:] == 255).all() and (mask[:59] < 3).all()
    with rasterio.open(tmp_path / 'out' / 'scene_prob.tif') as source:
        stored, scale = source.read(), source.scales[0]
        assert source.descriptions == tuple(task.classes)
        assert source.nodata == 65535
        with rasterio.open(image) as scene:
            assert (source.crs, source.transform) == (scene.crs, scene.transform)
            assert source.bounds == scene.bounds and source.shape == scene.shape
        assert source.tags(ns='IMAGE_STRUCTURE')['LAYOUT'] == 'COG'
    data = mask != 255
    assert (stored[:, ~data] == 65535).all()
    probabilities = stored * scale
    np.testing.assert_allclose(probabilities[:, data].sum(0), 1, atol=3e-5)
    np.testing.assert_allclose(
        probabilities[:, data], result.scores[:, data], atol=scale
    )
    # The untiled prediction, but where a window's edge hides the pixel beyond it.
    # Missing pixels look like the mean of the window, or of the image.
    (whole,) = task.predict([image], window=0)
    inner = data.copy()
    inner[59:101] = False
    for axis, starts in enumerate(([0, 28, 56, 84, 110], [0, 28, 56, 78])):
        edges = [edge for start in starts for edge in (start, start + 39)]
        inner[(slice(None),) * axis + (edges,)] = False
    assert inner.mean() > 0.4
    np.testing.assert_allclose(
        probabilities[:, inner], whole.scores[:, inner], atol=1e-4
    )


@pytest.mark.parametrize('placed', [True, False])
def test_a_stop_loses_nothing_that_is_done(tmp_path, said, placed):
    options = {} if placed else dict(crs=None, transform=None)
    image = write_raster(tmp_path / 'scene.tif', *SIZE, **options)
    task = segmentation()
    task.probabilities = Probabilities()
    save(task, tmp_path / 'whole', [image])
    expected = contents(tmp_path / 'whole')
    assert set(expected) == {
        'scene_overlay.jpg',
        'scene_prob.tif',
        *(('scene.tif', 'scene.tif.aux.xml') if placed else ('scene.png',)),
    }
    calls = len(task.model.calls)
    for stop in range(calls):
        folder = tmp_path / f'stop{stop}'
        task.model.calls.clear()
        task.model.fails_after = stop
        with pytest.raises(RuntimeError, match='stopped'):
            save(task, folder, [image])
        # Nothing is there under a final name, and nothing at all if nothing is done.
        left = [path.name for path in folder.iterdir()]
        assert left in ([], ['.scene.unfinished'])
        said.clear()
        task.model.calls.clear()
        task.model.fails_after = None
        save(task, folder, [image], resume=stop % 2 == 0)
        assert contents(folder) == expected
        assert len(said) == len(left)
        assert all('scene: goes on after' in text for text in said)
        # Of the windows that were done, a row is needed again, and its batches' rest.
        assert len(task.model.calls) <= calls - stop + 3
    assert len(task.model.calls) < 6


def test_killed_at_any_moment(tmp_path, image, single_threaded):
    task, out = segmentation(), tmp_path / 'out'
    begun = time.monotonic()
    save(task, tmp_path / 'whole', [image])
    needed = time.monotonic() - begun
    expected, moments = contents(tmp_path / 'whole'), random.Random(0)
    for _ in range(30):
        process = os.fork()
        if not process:
            with contextlib.suppress(BaseException):
                save(task, out, [image])
            os._exit(0)
        time.sleep(moments.uniform(0, needed / 2))
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        final = [path for path in out.glob('*') if path.is_file()]
        # Complete, whatever else is missing.
        assert all(path.read_bytes() == expected[path.name] for path in final)
        if len(final) == len(expected):
            break
    save(task, out, [image])
    assert contents(out) == expected


@pytest.fixture
def single_threaded():
    """A forked process cannot use the threads of OpenCV."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(threads)


def test_a_torn_strip_does_not_count(tmp_path, image, said):
    task = segmentation()
    save(task, tmp_path / 'whole', [image])
    task.model.fails_after = len(task.model.calls) + 3
    with pytest.raises(RuntimeError):
        save(task, tmp_path / 'out', [image])
    unfinished = tmp_path / 'out' / '.scene.unfinished'
    assert sorted(path.name for path in unfinished.glob('0*')) == [
        f'00000{strip}{ending}' for strip in range(3) for ending in ('.done', '.tif')
    ]
    assert not list(unfinished.glob('*/*'))
    for junk in ('000003.tif', '000004.tif', 'scene.tif', 'scene.tif.vrt'):
        (unfinished / junk).write_bytes(b'torn')
    (unfinished / '000003.done.123.part').write_bytes(b'')
    task.model.fails_after = None
    save(task, tmp_path / 'out', [image])
    assert said == [f'{tmp_path}/out/scene: goes on after 3 strips that are done']
    assert contents(tmp_path / 'out') == contents(tmp_path / 'whole')


@pytest.mark.parametrize(
    ('change', 'what'),
    [
        (dict(settings={'checkpoint': 'b'}), 'checkpoint'),
        (dict(overlap=8), 'overlap'),
        (dict(probabilities=Probabilities('largest')), 'probabilities'),
        (dict(touch=True), 'image'),
    ],
)
def test_other_settings_begin_anew(tmp_path, image, said, change, what):
    task = segmentation()
    task.model.fails_after = 3
    with pytest.raises(RuntimeError):
        save(task, tmp_path / 'out', [image])
    task.model.fails_after = None
    task.probabilities = change.pop('probabilities', None)
    if change.pop('touch', False):
        os.utime(image, (1, 1))
    save(task, tmp_path / 'out', [image], **change)
    assert said == [f'{tmp_path}/out/scene: was begun with another {what}; begins anew']
    save(task, tmp_path / 'new', [image], **change)
    assert contents(tmp_path / 'out') == contents(tmp_path / 'new')


def test_finished_images_are_skipped(tmp_path, image):
    small = write_raster(tmp_path / 'small.tif', 30, 30)
    task, out = segmentation(), tmp_path / 'out'
    assert all(saved.is_new for saved in save(task, out, [image, small]))
    calls = len(task.model.calls)
    saved = save(task, out, [image, small], resume=True)
    assert [one.is_new for one in saved] == [False, False]
    assert [len(one.files) for one in saved] == [2, 2]
    assert len(task.model.calls) == calls
    os.utime(small, (2e9, 2e9))
    saved = save(task, out, [image, small], resume=True)
    assert {one.path.stem: one.is_new for one in saved} == {
        'scene': False,
        'small': True,
    }
    (out / 'scene_overlay.jpg').unlink()
    assert save(task, out, [image], resume=True)[0].is_new
    assert save(task, out, [image])[0].is_new
    task.probabilities = Probabilities()
    assert save(task, out, [image], resume=True)[0].is_new


def test_windows_without_data(tmp_path, monkeypatch):
    warnings = []
    monkeypatch.setattr(notices, 'say', warnings.append)
    pixels = np.zeros((3, *SIZE), np.uint8)
    for name, bottom in (('some', 20), ('none', 0)):
        pixels[:] = 0
        pixels[:, :bottom] = 200
        write_raster(tmp_path / f'{name}.tif', *SIZE)
        with rasterio.open(tmp_path / f'{name}.tif', 'r+') as target:
            target.write(pixels)
    task, errors = segmentation(), []
    (saved,) = save(
        task,
        tmp_path / 'out',
        [tmp_path / 'none.tif', tmp_path / 'some.tif'],
        on_error=lambda path, error: errors.append((path.name, error)),
    )
    mask = read(saved.files[-1])[0]
    assert (mask[:20] < 3).all() and (mask[20:] == 255).all()
    ((name, error),) = errors
    assert name == 'none.tif' and isinstance(error, NoValidPixelError)
    assert not list((tmp_path / 'out').glob('*none*'))
    assert not list((tmp_path / 'out').glob('.*'))
    assert 'no valid pixel in window' in warnings[0]
    # An image without a place says it in its own value.
    plain = write_raster(tmp_path / 'plain.tif', *SIZE, crs=None, transform=None)
    with rasterio.open(plain, 'r+') as target:
        target.write(pixels * 0 + np.uint8([[[200]]]) * (np.arange(150) < 20)[:, None])
    save(task, tmp_path / 'out', [plain])
    mask = cv2.imread(str(tmp_path / 'out' / 'plain.png'), cv2.IMREAD_UNCHANGED)
    assert mask.shape == SIZE and (mask[:20] < 3).all() and (mask[20:] == 255).all()


def test_full_disk(tmp_path, image, said):
    task = segmentation()
    save(task, tmp_path / 'whole', [image])
    message = 'MB free; make room and repeat'
    with full_disk(600), pytest.raises(UnwrittenRasterError, match=message):
        save(task, tmp_path / 'out', [image])
    assert not list((tmp_path / 'out').iterdir())
    save(task, tmp_path / 'out', [image])
    assert not said
    assert contents(tmp_path / 'out') == contents(tmp_path / 'whole')


@pytest.mark.parametrize('window', [40, 0])
def test_a_full_disk_ends_all_images(tmp_path, image, window):
    """Told once, and not as a fault of each of them."""
    other = write_raster(tmp_path / 'other.tif', *SIZE)
    task, failed = segmentation(), []

    def fail(path, error):
        failed.append(path)

    with full_disk(600), pytest.raises(UnwrittenRasterError, match='out/.*make room'):
        save(task, tmp_path / 'out', [image, other], window=window, on_error=fail)
    assert not failed
    saved = save(task, tmp_path / 'out', [image, other], window=window, resume=True)
    assert [result.is_new for result in saved] == [True, True]


@pytest.mark.parametrize('done', [0, 1])
def test_of_an_error_only_strips_that_are_done_stay(tmp_path, image, said, done):
    task = segmentation()
    whole = contents_after(task, tmp_path / 'whole', image)
    task.model.fails_after = len(task.model.calls) + 2 * done
    with pytest.raises(RuntimeError, match='stopped'):
        save(task, tmp_path / 'out', [image])
    left = {path for path in (tmp_path / 'out').rglob('*') if path.is_file()}
    assert bool(left) == bool(done)
    left = {path for path in left if path.name != 'settings.json'}
    assert all((path.parent / f'{path.name[:6]}.done').exists() for path in left)
    task.model.fails_after = None
    assert contents_after(task, tmp_path / 'out', image) == whole
    assert len(said) == done


def contents_after(task, folder, image):
    """What is in a folder after an image was predicted to it."""
    save(task, folder, [image])
    return contents(folder)


@pytest.mark.parametrize('bits', [8, 16])
@pytest.mark.parametrize('large', [True, False])
@pytest.mark.parametrize('classes', [1, 3])
def test_probabilities(tmp_path, image, bits, large, classes):
    task, folder = segmentation(classes), tmp_path / 'out'
    options = {} if large else dict(window=0)
    values, scale = {}, 1 / (2**bits - 2)
    for which in ('classes', 'largest'):
        task.probabilities = Probabilities(which, bits)
        save(task, folder, [image], **options)
        with rasterio.open(folder / 'scene_prob.tif') as source:
            assert source.dtypes[0] == f'uint{bits}'
            assert source.nodata == 2**bits - 1
            assert source.scales[0] == scale
            values[which] = source.read()
    mask = read(folder / 'scene.tif')[0]
    data = mask != 255
    assert len(values['largest']) == 1
    assert len(values['classes']) == max(classes, 2)
    for bands in values.values():
        assert (bands[:, ~data] == 2**bits - 1).all()
    of_classes = values['classes'][:, data] * scale
    np.testing.assert_allclose(of_classes.sum(0), 1, atol=2 * scale)
    largest = values['largest'][0, data]
    assert (largest == values['classes'].max(0)[data]).all()
    chosen = np.take_along_axis(values['classes'], mask[None] % 255, 0)[0][data]
    assert (chosen == largest).mean() > 0.99  # but rounding


@pytest.mark.parametrize('classes', [1, 2])
def test_changes(tmp_path, image, classes):
    second = write_raster(tmp_path / 'second date.tif', *SIZE)
    task, folder = change_detection(classes), tmp_path / 'out'
    task.probabilities = Probabilities('classes', 8)
    (saved,) = save(task, folder, [(image, second)])
    assert [file.name for file in saved.files] == [
        'scene_overlay.jpg',
        'scene_prob.tif',
        'scene.tif',
    ]
    with rasterio.open(folder / 'scene.tif') as source:
        assert source.nodata == 127
        mask = source.read(1)
    with rasterio.open(folder / 'scene_prob.tif') as source:
        assert source.descriptions == ('probability of change',)
        assert source.count == 1 and source.nodata == 255
        probability = source.read(1) / 254
    assert set(np.unique(mask)) == {0, 127, 255}
    assert ((mask == 127) == (probability * 254 == 255)).all()
    changed, data = mask == 255, mask != 127
    assert ((probability > 0.5) == changed)[data].mean() > 0.98  # but rounding
    (result,) = task.predict([(image, second)], **WINDOWS)
    assert (result.mask[data] == changed[data]).all()
    # Stopped, it goes on, also here.
    expected = contents(folder)
    task.model.calls.clear()
    task.model.fails_after = 4
    with pytest.raises(RuntimeError):
        save(task, tmp_path / 'again', [(image, second)])
    task.model.fails_after = None
    save(task, tmp_path / 'again', [(image, second)])
    assert contents(tmp_path / 'again') == expected


@pytest.mark.parametrize('resume', [True, False])
def test_what_a_killed_removal_left_goes(tmp_path, image, resume):
    task, out = segmentation(), tmp_path / 'out'
    save(task, out, [image])
    expected = contents(out)
    gone = out / '.scene.unfinished.node-1'
    gone.mkdir()
    (gone / '000004.tif').write_bytes(b'')
    save(task, out, [image], resume=resume)
    assert contents(out) == expected and not gone.exists()
