# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""An index made of images, and vectors of queries made in the same way."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..checkpoints.stored_images import as_stored
from ..configs import load_config
from ..files import write_bytes
from ..inference.booking import ErrorHandler
from ..inference.images import output_names
from ..inference.saving import Saved, Saver
from ..overrides import merge_options
from ..restartable import OtherSettingsError
from .dense import Basis, DenseEmbedding
from .encoder import load_encoder
from .index import BASIS, RECORD
from .task import Embedding


@dataclass(frozen=True)
class EmbeddingOptions:
    """All that vectors depend on beside the images.

    Attributes:
        config: Config of the model.
        checkpoint: Of a run with it.
        cfg_options: Settings of the config that are overridden.
        stage: Stage of the backbone from 1; None for the last.
        pooling: How positions become one vector.
        unit: Whether vectors have length 1.
        size: Side to which windows are resized; None for as they are.
        window: Side of windows in pixels; None for the default, 0 for none.
        overlap: Pixels that they share; None for none.
        min_valid: Least share of a window that holds data.
        dense: Make feature rasters instead of vectors.
        components: Principal components that they hold; None for all channels.
        bits: Of each of their values, 8 or 16.
    """

    config: str
    checkpoint: str
    cfg_options: Mapping[str, Any] = field(default_factory=dict)
    stage: int | None = None
    pooling: str = 'mean'
    unit: bool = True
    size: int | None = None
    window: int | None = None
    overlap: int | None = None
    min_valid: float = 0.0
    dense: bool = False
    components: int | None = None
    bits: int = 16


class Maker:
    """Makes vectors by some options.

    Args:
        options: How.
        device: Where the network computes. Defaults to ``'cpu'``.

    Raises:
        FileNotFoundError: If there is no such config.
        CheckpointError: If the checkpoint does not fit.
        ValueError: If an option makes no sense.
    """

    def __init__(self, options: EmbeddingOptions, device: str = 'cpu') -> None:
        if not 0 <= options.min_valid <= 1:
            raise ValueError(f'min_valid {options.min_valid:g}: a share is 0 to 1')
        self.options = options
        cfg = load_config(options.config)
        merge_options(cfg, dict(options.cfg_options))
        loaded = load_encoder(
            cfg,
            options.checkpoint,
            options.stage,
            options.pooling,
            options.unit,
            options.size,
        )
        try:
            loaded.encoder.to(torch.device(device))
        except (RuntimeError, AssertionError) as error:
            raise ValueError(f'device {device!r} cannot be used: {error}') from None
        self.task: Embedding = (
            DenseEmbedding(loaded, options.bits, options.min_valid)
            if options.dense
            else Embedding(loaded, options.min_valid)
        )

    def write(
        self,
        folder: str | Path,
        images: Sequence[str | Path],
        batch_size: int = 16,
        on_error: ErrorHandler | None = None,
        basis: str | Path | None = None,
    ) -> Iterator[Saved]:
        """Write the vectors of images; what is there and newer is left as it is.

        Stopped and called again with the same arguments, it goes on with what is not
        finished; vectors are the same bit by bit.

        Args:
            folder: Where to.
            images: The images.
            batch_size: Images, or windows, embedded together.
            on_error: Called with the path and the error of an image that fails,
                instead of stopping.
            basis: Of feature rasters, ``basis.npz`` of another folder, so that both
                compare. Defaults to None: made of these images.

        Yields:
            What was written for each image.

        Raises:
            OtherSettingsError: If the folder was made with other settings.
        """
        folder = Path(folder)
        window, overlap = self.task.check_window(
            self.options.window, self.options.overlap
        )
        area = self.task.area
        record = {
            **asdict(self.options),
            'config': str(self.options.config),
            'checkpoint': str(self.options.checkpoint),
            'window': window,
            'overlap': overlap,
            'aoi': area and area.path,
            'batch_size': batch_size,
            'model': self.task.digest,
            'reading': as_stored(self.task.reading),
            'images': [str(image) for image in images],
        }
        _check_same(folder, record)
        # What is refused must not leave a folder that refuses the mended command.
        output_names([Path(image) for image in images], folder)
        if isinstance(self.task, DenseEmbedding):
            self._set_basis(self.task, folder, images, basis)
        saver = Saver(self.task, folder, {'model': self.task.digest})
        saved = saver.predict(images, batch_size, window, overlap, True, on_error)
        return self._recorded(folder, record, saved)

    def _recorded(
        self, folder: Path, record: dict[str, Any], saved: Iterator[Saved]
    ) -> Iterator[Saved]:
        """Write how vectors are made, then them; if none is, nothing stays."""
        written = {RECORD}
        try:
            content = json.dumps(record, indent=2) + '\n'
            write_bytes(folder / RECORD, content.encode())
            if isinstance(self.task, DenseEmbedding) and not (folder / BASIS).exists():
                written.add(BASIS)
                self.task.basis.write(folder / BASIS)
            yield from saved
        finally:
            if {entry.name for entry in folder.iterdir()} <= written:
                for name in written:
                    (folder / name).unlink(missing_ok=True)
                with suppress(OSError):  # where a disk is mounted
                    folder.rmdir()

    def _set_basis(
        self,
        task: DenseEmbedding,
        folder: Path,
        images: Sequence[str | Path],
        given: str | Path | None,
    ) -> None:
        """Take the basis of the folder, or a given one, or make it."""
        path = folder / BASIS
        if given is not None:
            task.basis = Basis.read(Path(given))
            if path.exists() and Basis.read(path).digest != task.basis.digest:
                raise OtherSettingsError(
                    f'{folder} was made with another basis than {given}; give another '
                    'folder'
                )
        elif path.exists():
            task.basis = Basis.read(path)
        else:
            task.basis = task.fit_basis(
                images,
                self.options.components,
                self.options.window,
                self.options.overlap,
            )


def _check_same(folder: Path, record: dict[str, Any]) -> None:
    """See that a folder, and the index around it, is made in the same way."""
    path = folder / RECORD
    if path.exists():
        found = json.loads(path.read_text(encoding='utf-8'))
        wanted = json.loads(json.dumps(record))
        changed = [name for name in wanted if wanted[name] != found.get(name)]
        # The same weights may lie elsewhere by now.
        changed = [name for name in changed if name not in ('config', 'checkpoint')]
        if changed:
            raise OtherSettingsError(
                f'{folder} was made with another {", ".join(changed)}; give another '
                'folder (one in it belongs to the same index)'
            )
    around = folder.resolve().parent
    if not record['dense'] and (around / RECORD).exists():
        found = json.loads((around / RECORD).read_text(encoding='utf-8'))
        if found.get('dense') is False and found['model'] != record['model']:
            raise OtherSettingsError(
                f'{folder} lies in the index {around}, which was made by another '
                'model, and would be a part of it; give a folder outside of it'
            )
