# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Writing procedural scenes as the data sets of the four downstream tasks."""

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from ..files import write_bytes
from ..images.writing import write_image
from ..restartable import Job, OtherSettingsError, RestartableFolder, run_jobs
from .making import MAX_SIZE, MIN_SIZE, make_change_pair, make_scene
from .rasters import RASTERS, raster_job
from .scene import SCENE_CLASSES

TASKS = ('scene', 'segmentation', 'detection', 'change')
"""Tasks that demo data can be written for."""

_MANIFEST = 'demo_scenes.json'
_VERSION = 1  # of the generator: raise it whenever the pixels of a scene change
_TEST_START = 1 << 20  # index of the first test scene; training scenes come before
_DETECTION_CLASSES = ('harbour', 'highway', 'industrial', 'parking', 'residential')


def write_demo_data(
    out_dir: str | Path,
    train: int = 800,
    test: int = 200,
    size: int = 256,
    seed: int = 0,
    tasks: Sequence[str] = TASKS,
    overwrite: bool = False,
    workers: int = 1,
    progress: bool = True,
) -> dict[str, Path]:
    """Write demo data, one folder a task.

    ::

        scene/{train,test}/<class>/000012.jpg
        segmentation/{train,test}/{img,ann}/000012.png   # ann: index masks
        detection/{train,test}/images/000012.png, labelTxt/000012.txt  # DOTA v1.0
        change/{train,test}/{A,B,label}/000012.png       # label: 0 or 255
        aerial/images/*.tif, aerial/labels.gpkg, aerial/all.mosaic
        satellite/images/*.SAFE, satellite/labels.tif

    The latter two, which have to be asked for, are the same few georeferenced scenes
    whatever the numbers and the size: 8-bit RGB of 0.5 m with polygons, Sentinel-2
    folders of 13 bands with a label raster of 20 m. Their classes are those of
    ``MAP_CLASSES``.

    A run that was interrupted continues where it stopped, and a complete folder that
    was made with the same settings is left as it is.

    Args:
        out_dir: Folder to write to; made when missing.
        train: Number of training images (or pairs) of each task, 1 to 2**20.
        test: Number of test images (or pairs) of each task, >= 1.
        size: Side of the images in pixels, 64 to 1024.
        seed: Seed of the collection, >= 0.
        tasks: Which of ``TASKS`` and ``RASTERS`` to write.
        overwrite: Replace folders that were made with other settings.
        workers: Number of processes.
        progress: Whether to show a progress bar for each task.

    Returns:
        dict[str, Path]: The folder of each task.

    Raises:
        ValueError: If an argument is outside its range.
        FileExistsError: If a task's folder exists with other settings and
            ``overwrite`` is off, or holds files that are not demo data.
    """
    known = TASKS + RASTERS
    if not tasks or not set(tasks) <= set(known):
        raise ValueError(f'tasks must be some of {known}, got {tuple(tasks)}')
    if not 1 <= train <= _TEST_START or test < 1 or workers < 1 or seed < 0:
        raise ValueError(
            f'train must be 1 to {_TEST_START}, test and workers >= 1 and seed >= 0, '
            f'got train={train}, test={test}, workers={workers}, seed={seed}'
        )
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise ValueError(f'size must be {MIN_SIZE} to {MAX_SIZE} pixels, got {size}')
    root = Path(out_dir)
    every = dict(version=_VERSION, seed=seed)
    of_tasks = dict(train=train, test=test, size=size)
    folders = {
        task: RestartableFolder(
            root / task,
            {**every, **(of_tasks if task in TASKS else {}), 'task': task},
            _MANIFEST,
        )
        for task in tasks
    }
    # Every folder is checked before the first one is written.
    wanted = [task for task in tasks if not _is_complete(folders[task], overwrite)]
    scenes = [('train', i) for i in range(train)]
    scenes += [('test', _TEST_START + i) for i in range(test)]
    for task in wanted:
        _begin(folders[task])
        if task in RASTERS:
            jobs = [raster_job(task, root / task, seed)]
        else:
            write = _JOBS[task]
            jobs = [write(root / task / split, seed, size, i) for split, i in scenes]
        run_jobs(jobs, workers, f'demo data: {task}', progress)
        folders[task].finish()
    return {task: root / task for task in tasks}


def _is_complete(folder: RestartableFolder, overwrite: bool) -> bool:
    """Whether there is nothing to do."""
    try:
        return folder.is_complete()
    except OtherSettingsError as error:
        if not overwrite:
            raise OtherSettingsError(f'{error}, or use the overwrite option') from None
        return False


def _begin(folder: RestartableFolder) -> None:
    try:
        folder.begin()
    except OtherSettingsError:  # to be overwritten, or it were refused before
        shutil.rmtree(folder.path)
        folder.begin()


def _name(index: int) -> str:
    """File name of a scene, counted from zero in either split."""
    return f'{index % _TEST_START:06d}'


def _scene_job(folder: Path, seed: int, size: int, index: int) -> Job:
    # The class of an index is known without making the scene.
    name = SCENE_CLASSES[index % len(SCENE_CLASSES)]
    path = folder / name / f'{_name(index)}.jpg'
    return Job((path,), partial(_write_scene, path, seed, size, index))


def _write_scene(path: Path, seed: int, size: int, index: int) -> None:
    write_image(path, make_scene(seed, index, size).image)


def _segmentation_job(folder: Path, seed: int, size: int, index: int) -> Job:
    paths = tuple(folder / kind / f'{_name(index)}.png' for kind in ('img', 'ann'))
    return Job(paths, partial(_write_segmentation, paths, seed, size, index))


def _write_segmentation(
    paths: Sequence[Path], seed: int, size: int, index: int
) -> None:
    scene = make_scene(seed, index, size)
    write_image(paths[0], scene.image)
    write_image(paths[1], scene.mask)


def _detection_job(folder: Path, seed: int, size: int, index: int) -> Job:
    paths = (
        folder / 'images' / f'{_name(index)}.png',
        folder / 'labelTxt' / f'{_name(index)}.txt',
    )
    return Job(paths, partial(_write_detection, paths, seed, size, index))


def _write_detection(paths: Sequence[Path], seed: int, size: int, index: int) -> None:
    # Only the classes where vehicles and ships are common.
    name = _DETECTION_CLASSES[index % len(_DETECTION_CLASSES)]
    scene = make_scene(seed, index, size, name)
    write_image(paths[0], scene.image)
    write_bytes(paths[1], scene.dota_text())


def _change_job(folder: Path, seed: int, size: int, index: int) -> Job:
    paths = tuple(folder / kind / f'{_name(index)}.png' for kind in ('A', 'B', 'label'))
    return Job(paths, partial(_write_change, paths, seed, size, index))


def _write_change(paths: Sequence[Path], seed: int, size: int, index: int) -> None:
    pair = make_change_pair(seed, index, size)
    write_image(paths[0], pair.before.image)
    write_image(paths[1], pair.after.image)
    write_image(paths[2], pair.change_mask)


_JOBS: dict[str, Callable[[Path, int, int, int], Job]] = {
    'scene': _scene_job,
    'segmentation': _segmentation_job,
    'detection': _detection_job,
    'change': _change_job,
}
