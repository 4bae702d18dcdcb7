# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The ground floor beside ``images``: what a label file holds. Nobody else opens one.

- masks of classes or changes: :mod:`.masks`
- layers of whole scenes: :mod:`.layers`: polygons (:mod:`.polygon_labels`) or rasters
  (:mod:`.raster_labels`)
- oriented boxes as text: :mod:`.dota`
- lists of files and classes: :mod:`.lists`
- areas on the ground: :mod:`.areas`, which writes them; :mod:`.vectors`
"""
