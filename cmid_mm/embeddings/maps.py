# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Classes of windows as tables and as rasters."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..inference.images import output_names
from .hits import write_rows
from .index import Index
from .labelling import ClassMap, WindowClassifier, rows_of


def write_classes(
    index: Index,
    classifier: WindowClassifier,
    tables: Sequence[Path],
    folder: Path | None = None,
) -> dict[str, int]:
    """Classify an index and write what was found.

    Args:
        index: The index.
        classifier: What classifies.
        tables: Files with class and probability of each window: ``.csv``, or with
            polygons ``.gpkg``, ``.geojson`` or ``.parquet``.
        folder: For a class raster of each image. Defaults to None, none.

    Returns:
        Windows of each class.
    """
    maps: dict[str, ClassMap] = {}
    rows: list[dict[str, Any]] = []
    outlines: list[Any] = []
    for classified in classifier.classify(index):
        more, shapes = rows_of(classified, classifier.classes)
        rows += more
        outlines += shapes
        file = classified.block.file
        if folder is not None:
            if file not in maps:
                maps[file] = ClassMap(file, classifier.classes, index.reading)
            maps[file].add(classified)
    for path in tables:
        write_rows(path, rows, outlines, 'classes')
    if folder is not None:
        names = output_names([Path(file) for file in maps], folder)
        for name, drawn in zip(names, maps.values(), strict=True):
            drawn.write(folder / f'{name}.tif')
    found = [row['class'] for row in rows]
    return {name: found.count(name) for name in classifier.classes}
