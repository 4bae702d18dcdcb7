# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Writing procedural scenes as the data sets of the four downstream tasks."""

import json
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import cv2
from rich.progress import track

from ..files import write_bytes
from ..images.writing import write_image
from .making import MAX_SIZE, MIN_SIZE, make_change_pair, make_scene
from .scene import SCENE_CLASSES

TASKS = ('scene', 'segmentation', 'detection', 'change')
"""Tasks that demo data can be written for."""

_MANIFEST = 'demo_scenes.json'
_VERSION = 1  # of the generator: raise it whenever the pixels of a scene change
_TEST_START = 1 << 20  # index of the first test scene; training scenes come before
_DETECTION_CLASSES = ('harbour', 'highway', 'industrial', 'parking', 'residential')

_Job = tuple[str, int]  # split, index of the scene


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

    A task is written to a hidden folder beside its own and renamed when complete. A
    run that was interrupted continues where it stopped, and a complete folder that
    was made with the same settings is left as it is.

    Args:
        out_dir: Folder to write to; made when missing.
        train: Number of training images (or pairs) of each task, 1 to 2**20.
        test: Number of test images (or pairs) of each task, >= 1.
        size: Side of the images in pixels, 64 to 1024.
        seed: Seed of the collection, >= 0.
        tasks: Which of ``TASKS`` to write.
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
    unknown = sorted(set(tasks) - set(TASKS))
    if unknown or not tasks:
        raise ValueError(f'tasks must be some of {TASKS}, got {tuple(tasks)}')
    if not 1 <= train <= _TEST_START or test < 1 or workers < 1 or seed < 0:
        raise ValueError(
            f'train must be 1 to {_TEST_START}, test and workers >= 1 and seed >= 0, '
            f'got train={train}, test={test}, workers={workers}, seed={seed}'
        )
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise ValueError(f'size must be {MIN_SIZE} to {MAX_SIZE} pixels, got {size}')
    root = Path(out_dir)
    settings = dict(version=_VERSION, train=train, test=test, size=size, seed=seed)
    # Every folder is checked before the first one is written.
    wanted = {
        task: root / task
        for task in tasks
        if not _is_complete(root / task, settings | {'task': task}, overwrite)
    }
    jobs = [('train', i) for i in range(train)]
    jobs += [('test', _TEST_START + i) for i in range(test)]
    for task, folder in wanted.items():
        unfinished = _open_unfinished(folder, settings | {'task': task})
        write = partial(_WRITERS[task], unfinished, seed, size)
        bar = partial(
            track,
            description=f'demo data: {task}',
            total=len(jobs),
            disable=not progress,
        )
        _run(write, jobs, workers, bar)
        if folder.exists():
            shutil.rmtree(folder)
        unfinished.rename(folder)
    return {task: root / task for task in tasks}


def _is_complete(folder: Path, settings: dict[str, object], overwrite: bool) -> bool:
    """Whether a task's folder is there with these settings."""
    if not folder.exists():
        return False
    found = _read_manifest(folder)
    if found == settings:
        return True
    if found is None and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(
            f'{folder} exists and is not demo data; choose another output folder'
        )
    if found is not None and not overwrite:
        raise FileExistsError(
            f'{folder} was made with {found}, not {settings}; use the overwrite '
            'option to replace it, or choose another output folder'
        )
    return False


def _read_manifest(folder: Path) -> dict[str, object] | None:
    """Settings that a folder was made with, None when it has none."""
    try:
        content = json.loads((folder / _MANIFEST).read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _open_unfinished(folder: Path, settings: dict[str, object]) -> Path:
    """The hidden folder a task is written to; kept if the same run began it."""
    unfinished = folder.with_name(f'.{folder.name}.unfinished')
    if unfinished.exists() and _read_manifest(unfinished) != settings:
        shutil.rmtree(unfinished)
    unfinished.mkdir(parents=True, exist_ok=True)
    write_bytes(
        unfinished / _MANIFEST, (json.dumps(settings, indent=2) + '\n').encode()
    )
    return unfinished


def _run(
    write: Callable[[_Job], None],
    jobs: Sequence[_Job],
    workers: int,
    bar: Callable[[Iterator[None]], Iterable[None]],
) -> None:
    """Run all jobs, here or in worker processes."""
    if workers == 1:
        deque(bar(map(write, jobs)), maxlen=0)
        return
    with ProcessPoolExecutor(workers, initializer=cv2.setNumThreads, initargs=(1,)) as (
        pool
    ):
        # Before the bar starts its thread: processes must not fork beside one.
        done = pool.map(write, jobs, chunksize=8)
        deque(bar(done), maxlen=0)


def _name(index: int) -> str:
    """File name of a scene, counted from zero in either split."""
    return f'{index % _TEST_START:06d}'


def _write_scene(root: Path, seed: int, size: int, job: _Job) -> None:
    split, index = job
    # The class of an index is known without making the scene.
    folder = root / split / SCENE_CLASSES[index % len(SCENE_CLASSES)]
    path = folder / f'{_name(index)}.jpg'
    if not path.exists():
        write_image(path, make_scene(seed, index, size).image)


def _write_segmentation(root: Path, seed: int, size: int, job: _Job) -> None:
    split, index = job
    last = root / split / 'ann' / f'{_name(index)}.png'
    if not last.exists():
        scene = make_scene(seed, index, size)
        write_image(root / split / 'img' / last.name, scene.image)
        write_image(last, scene.mask)


def _write_detection(root: Path, seed: int, size: int, job: _Job) -> None:
    split, index = job
    last = root / split / 'labelTxt' / f'{_name(index)}.txt'
    if not last.exists():
        # Only the classes where vehicles and ships are common.
        name = _DETECTION_CLASSES[index % len(_DETECTION_CLASSES)]
        scene = make_scene(seed, index, size, name)
        write_image(root / split / 'images' / f'{_name(index)}.png', scene.image)
        write_bytes(last, scene.dota_text().encode())


def _write_change(root: Path, seed: int, size: int, job: _Job) -> None:
    split, index = job
    last = root / split / 'label' / f'{_name(index)}.png'
    if not last.exists():
        pair = make_change_pair(seed, index, size)
        write_image(root / split / 'A' / last.name, pair.before.image)
        write_image(root / split / 'B' / last.name, pair.after.image)
        write_image(last, pair.change_mask)


_WRITERS: dict[str, Callable[[Path, int, int, _Job], None]] = {
    'scene': _write_scene,
    'segmentation': _write_segmentation,
    'detection': _write_detection,
    'change': _write_change,
}
