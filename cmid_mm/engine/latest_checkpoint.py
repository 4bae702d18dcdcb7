# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Which checkpoint of a folder a run goes on from: the last that is whole."""

from pathlib import Path

from ..checkpoints import CheckpointError, read_checkpoint
from ..checkpoints.reading import read_content


def latest_checkpoint(work_dir: str | Path) -> str | None:
    """Find the last whole checkpoint in the folder of a run.

    It is the one that ``last_checkpoint`` names. If that is damaged or gone, the one
    that is furthest in training among the others; what was wrong is printed.

    Args:
        work_dir: The folder; it need not exist.

    Returns:
        Its path, or None if no run has saved there.

    Raises:
        CheckpointError: If one has, but no whole checkpoint is left.
    """
    folder = Path(work_dir)
    faults: list[str] = []
    named = recorded_checkpoint(folder, faults)
    file = _furthest(folder, named, faults)
    if file is not None:
        if faults:
            faults.append(f'going on from {file}, iteration {iteration_of(file)}')
        for fault in faults:
            print(f'--resume: {fault}')
        return str(file)
    if not faults and not any(folder.glob('best_*.pth')):
        return None
    raise CheckpointError(
        f'--resume: a run has saved checkpoints in {work_dir}, but none that is whole '
        f'is left ({"; ".join(faults) or "only best ones, which lack the optimizer"}). '
        'Put one back from a copy and name it, as --resume CKPT; or start anew '
        'without --resume'
    )


def check_whole(checkpoint: str | Path) -> None:
    """Refuse a damaged checkpoint, with the name of a whole one beside it.

    Raises:
        CheckpointError: If it cannot be read.
    """
    try:
        read_checkpoint(checkpoint, mmap=True)
    except CheckpointError as error:
        other = _furthest(Path(checkpoint).parent, None, [])
        beside = f'; this one is whole: --resume {other}' if other else ''
        raise CheckpointError(f'--resume: {error}{beside}') from error


def recorded_checkpoint(folder: Path, faults: list[str] | None = None) -> Path | None:
    """The file that ``last_checkpoint`` names, if it is there.

    Args:
        folder: The folder of the run.
        faults: If something is wrong, it is added here.
    """
    record = folder / 'last_checkpoint'
    if not record.exists():
        return None
    try:
        # A pipe in its place would be waited for.
        text = record.read_text().strip() if record.is_file() else ''
        # The path is absolute: in a copy of the folder, that of the original.
        for file in (folder / Path(text).name, Path(text)):
            if text and file.is_file():
                return file
    except (OSError, ValueError):  # not text, or none that can be a path
        text = ''
    names = f'{text!r:.200}, which is gone' if text else 'no file'
    if faults is not None:
        faults.append(f'{record} names {names}')
    return None


def _furthest(folder: Path, named: Path | None, faults: list[str]) -> Path | None:
    """The whole checkpoint that is furthest in training, or the named one."""
    files = {*folder.glob('epoch_*.pth'), *folder.glob('iter_*.pth')}
    if named is not None:
        # Checkpoints may be kept elsewhere, and under other names.
        files |= {named} | ({*named.parent.glob('*.pth')} if not files else set())
    steps: dict[Path, int] = {}
    for file in sorted(files):
        try:
            steps[file] = iteration_of(file)
        except (CheckpointError, OSError) as error:
            faults.append(str(error))
    for file in sorted(steps, key=lambda f: (f == named, steps[f]), reverse=True):
        try:
            read_checkpoint(file, mmap=True)
        except (CheckpointError, OSError) as error:
            faults.append(str(error))
        else:
            return file
    return None


def iteration_of(path: Path) -> int:
    """How far in training a checkpoint is, without reading all of it.

    Raises:
        CheckpointError: If it cannot be read, or does not say so.
    """
    meta = read_content(path, mmap=True, verify=False).content.get('meta')
    iteration = meta.get('iter') if isinstance(meta, dict) else None
    if not isinstance(iteration, int):
        raise CheckpointError(
            f'{path} is no checkpoint of a run: it does not say its iteration'
        )
    return iteration
