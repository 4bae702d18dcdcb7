# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What vector layers say of themselves."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..dependencies import vector_library
from ..files import check_regular
from ..images.names import is_missing
from .errors import LabelError


def layer_info(path: str | Path, layer: str | None) -> dict[str, Any]:
    """What a layer says of itself, as pyogrio has it.

    Args:
        path: Whatever GDAL reads as vector layers.
        layer: Name of the layer, needed if there are several.

    Raises:
        ImportError: If geopandas or pyogrio is missing.
        FileNotFoundError: If there is no such file.
        LabelError: If it cannot be read, has no reference system or no feature.
    """
    vector_library()
    import pyogrio

    name = str(path)
    if is_missing(path):
        raise FileNotFoundError(f'{path}: no such vector layer')
    check_regular(path)
    # A folder may be a layer: of Shapefiles, or a file geodatabase.
    per_scene = (
        f'; a file for each scene is named by {{stem}}: {name}/{{stem}}.png'
        if Path(name).is_dir()
        else ''
    )
    try:
        layers = [layer_name for layer_name, kind in pyogrio.list_layers(name) if kind]
        if layer is None and len(layers) > 1:
            raise LabelError(
                f'{path} has {len(layers)} layers: {", ".join(layers)}; name one '
                '(layer=...)'
            )
        if layer is not None and layer not in layers:
            raise LabelError(
                f'{path} has no layer {layer!r} with geometries; it has '
                f'{", ".join(layers) or "none"}'
            )
        if not layers:
            raise LabelError(f'{path}: has no layer with geometries')
        info = pyogrio.read_info(
            name, layer=layer or layers[0], force_feature_count=True
        )
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise LabelError(
            f'{path}: cannot be read as a vector layer{per_scene} ({error})'
        ) from None
    if info['crs'] is None:
        raise LabelError(
            f'{path}: layer {info["layer_name"]} has no reference system (CRS), so '
            'nobody knows where it lies; write it again with one (ogr2ogr -a_srs '
            'EPSG:CODE new.gpkg FILE, or a .prj beside a Shapefile)'
        )
    if not info['features']:
        raise LabelError(f'{path}: layer {info["layer_name"]} has no features')
    return info


def require_fields(path: str | Path, columns: Sequence[str], fields: Any) -> None:
    """Refuse a layer that lacks a field.

    Args:
        path: The file, for the error.
        columns: The fields.
        fields: Those that it has.

    Raises:
        LabelError: If one is missing.
    """
    missing = [column for column in columns if column not in fields]
    if missing:
        raise LabelError(
            f'{path} has no field {missing[0]!r}; it has '
            f'{", ".join(map(str, fields)) or "none"}'
        )
