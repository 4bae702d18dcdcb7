# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What the data sets of windows of scenes have in common."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ...images import NoValidPixelError, Window
from ...labels.errors import LabelError
from ...labels.layers import LabelLayer
from ...labels.masks import IGNORED
from ..transforms import window_labels  # noqa: F401  registers the transforms
from ..unreadable import SkipsUnreadable
from .scenes import LabelledScenes, reading_of


class WindowedDataset(SkipsUnreadable):
    """Windows of scenes and the labels that lie on them; a data set for each task.

    The scenes are divided into windows of one size on the pixels that the loader of
    the pipeline reads. Windows without labels are left out; so are, of a test, those
    in which a band holds no data, while in training another takes their place.

    Args:
        images: Scenes: files, folders, patterns, or lists of such (``*.txt``),
            relative to ``data_root``.
        labels: File with the labels, relative to ``data_root``; with ``{stem}`` in it,
            a file for each scene, whose name without ending takes its place. Or a dict
            of this ``path`` and the other arguments of what reads it, such as
            ``dict(path='fields.gpkg', field='crop', background='other')``.
        window: Side of the windows in pixels. Scenes that are smaller are one window.
        overlap: Pixels that neighbours share. Defaults to 0.
        aoi: Vector layer of polygons: windows lie in the rectangles around them, and
            labels outside of the polygons are ignored. ``tools/split_dataset.py``
            writes one for each part of a split. Defaults to None, everywhere.
        data_root: Folder that all names are relative to. Defaults to ''.
        metainfo: May name ``classes``, as ``classes`` of ``labels`` does, and their
            ``palette``. Defaults to None: as the labels say.
        pipeline: Transforms.
        indices: Subset of the windows, as in :class:`mmengine.dataset.BaseDataset`.
        test_mode: Whether it is a test. Defaults to False.
        serialize_data: Keep the list of windows as bytes that workers share. Defaults
            to True.
        lazy_init: Search for windows at first use. Defaults to False.
        max_unreadable: Share of windows (0-1) that cannot be read above which training
            stops; see :class:`~cmid_mm.datasets.unreadable.SkipsUnreadable`.

    Raises:
        FileNotFoundError: If a scene or the labels are missing.
        LabelError: If no scene lies where the labels are, a value has no class, or no
            window has labels.
        ValueError: If window or overlap is out of range, or no transform loads
            windows.
    """

    #: What reads the labels.
    LAYER: ClassVar[type[Any]] = LabelLayer

    def __init__(
        self,
        images: str | Sequence[str],
        labels: str | Mapping[str, Any],
        window: int,
        overlap: int = 0,
        aoi: str | None = None,
        data_root: str = '',
        metainfo: Mapping[str, Any] | None = None,
        pipeline: Sequence[dict[str, Any] | Callable[..., Any]] = (),
        indices: int | Sequence[int] | None = None,
        test_mode: bool = False,
        serialize_data: bool = True,
        lazy_init: bool = False,
        max_unreadable: float = 0.01,
    ) -> None:
        options = {'path': labels} if isinstance(labels, str) else dict(labels)
        meta = {**self.METAINFO, **(metainfo or {})}
        named = metainfo and metainfo.get('classes')
        if named and tuple(options.get('classes', named)) != tuple(named):
            raise LabelError(
                f'{options["path"]}: labels and metainfo name other classes, or in '
                f'another order: {", ".join(options["classes"])}, and '
                f'{", ".join(named)}; name them in one place, and number the colours '
                'and num_classes of the heads alike'
            )
        if 'classes' in meta:
            options.setdefault('classes', meta['classes'])
        self.scenes = LabelledScenes(
            self.LAYER,
            images,
            options,
            window,
            overlap,
            aoi,
            data_root,
            reading_of(pipeline),
        )
        layers = self.scenes.layers
        meta['classes'] = tuple(layers.classes)
        if layers.palette is not None:
            meta.setdefault('palette', layers.palette)
        super().__init__(
            data_root=data_root,
            data_prefix={},
            metainfo=meta,
            pipeline=list(pipeline),
            indices=indices,
            test_mode=test_mode,
            serialize_data=serialize_data,
            lazy_init=lazy_init,
            max_unreadable=max_unreadable,
        )

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the windows that have labels."""
        return self.scenes.samples(self.labels_of)

    def labels_of(self, scene: str, window: Window) -> dict[str, Any] | None:
        """What the list of samples says of a window: the classes that are in it.

        Args:
            scene: Name of the scene.
            window: Its pixels.

        Returns:
            Entries of the sample; None if it is left out.
        """
        present = np.unique(self.scenes.mask(scene, window))
        classes = present[present != IGNORED].tolist()
        if not classes or not self.is_usable(scene, window):
            return None
        return {'cat_ids': classes}

    def is_usable(self, scene: str, window: Window) -> bool:
        """Whether a labelled window can be loaded, as far as it matters now."""
        return not self.test_mode or self.scenes.has_data(scene, window)

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """A window, with the scenes that read its labels."""
        return {**super().get_data_info(idx), 'scenes': self.scenes}

    def get_cat_ids(self, idx: int) -> list[int]:
        """Classes in a window, for mmengine's ``ClassBalancedDataset``."""
        return self.get_data_info(idx)['cat_ids']

    def prepare_data(self, idx: int) -> Any:
        """Load a window; in training None, for another, if it holds no data."""
        try:
            return super().prepare_data(idx)
        except NoValidPixelError:
            if self.test_mode:
                raise
            return None
