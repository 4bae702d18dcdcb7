# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Miniature image files of every kind that users have, with what they hold.

Each maker writes one file and says what every reader of it has to find: the values
that mean something, by hand, and the missing pixels.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin

from cmid_mm.images import Reading

HEIGHT, WIDTH = 48, 64
PLACE = dict(crs='EPSG:32650', transform=from_origin(5e5, 3e6, 2, 2))


@dataclass
class Miniature:
    """One file.

    Attributes:
        path: Where it lies.
        values: Values that readers find, (H, W, C); of no meaning where missing.
        missing: Pixels without data, (H, W).
        reading: How it is read.
        gdal_mask: Whether GDAL's data set mask says the same.
    """

    path: Path
    values: np.ndarray
    missing: np.ndarray
    reading: Reading
    gdal_mask: bool = True

    @property
    def scaled(self) -> np.ndarray:
        """The values on the 0-255 scale."""
        if self.values.dtype == np.uint8:
            return self.values
        low, high = self.reading.limits(self.values.dtype, self.path)
        scaled = (self.values.astype(np.float64) - low) * 255 / (high - low)
        return np.clip(scaled, 0, 255)


def texture(bands: int, low: float = 1, high: float = 255, dtype: Any = np.uint8):
    """Random values, low <= x < high."""
    generator = np.random.default_rng(bands)
    values = generator.uniform(low, high, (HEIGHT, WIDTH, bands))
    return values.astype(dtype)


def corner(height: int = 20, width: int = 30):
    """The upper left corner, as missing pixels."""
    missing = np.zeros((HEIGHT, WIDTH), bool)
    missing[:height, :width] = True
    return missing


NOTHING = np.zeros((HEIGHT, WIDTH), bool)


def write_raster(path: Path, values: np.ndarray, **profile: Any) -> Path:
    """Write (H, W, C) values."""
    mask = profile.pop('mask', None)
    colours = profile.pop('colorinterp', None)
    options = dict(driver='GTiff', **PLACE)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        with rasterio.open(
            path,
            'w',
            **{
                **options,
                'height': values.shape[0],
                'width': values.shape[1],
                'count': values.shape[2],
                'dtype': values.dtype,
                **profile,
            },
        ) as target:
            if colours is not None:
                target.colorinterp = colours
            target.write(values.transpose(2, 0, 1))
            if mask is not None:
                target.write_mask(mask)
    return path


def plain(folder):
    values = texture(3)
    return Miniature(write_raster(folder / 'a.tif', values), values, NOTHING, Reading())


def nodata_tag(folder):
    values = texture(3)
    values[corner()] = 0
    # Black in single bands of valid pixels is a value.
    values[30:, :, 1] = 0
    path = write_raster(folder / 'a.tif', values, nodata=0)
    return Miniature(path, values, corner(), Reading())


def nodata_in_other_bands_too(folder):
    """Bands that are taken are 0 in a pixel where others hold data."""
    values = texture(5)
    values[corner()] = 0
    values[30:, :, :3] = 0
    path = write_raster(folder / 'a.tif', values, nodata=0)
    return Miniature(path, values[..., :3], corner(), Reading(bands=(1, 2, 3)))


def nodata_by_option(folder):
    values = texture(3)
    values[corner()] = 0
    path = write_raster(folder / 'a.tif', values)
    return Miniature(path, values, corner(), Reading(nodata=0), gdal_mask=False)


def nodata_of_png_by_option(folder):
    values = texture(3)
    values[corner()] = 255
    Image.fromarray(values).save(folder / 'a.png')
    reading = Reading(nodata=255)
    return Miniature(folder / 'a.png', values, corner(), reading, gdal_mask=False)


def internal_mask(folder):
    values, mask = texture(3), np.where(corner(), 0, 255).astype(np.uint8)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        path = write_raster(folder / 'a.tif', values, mask=mask)
    assert not (folder / 'a.tif.msk').exists()
    return Miniature(path, values, corner(), Reading())


def mask_beside(folder):
    values, mask = texture(3), np.where(corner(), 0, 255).astype(np.uint8)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False):
        path = write_raster(folder / 'a.tif', values, mask=mask)
    assert (folder / 'a.tif.msk').exists()
    return Miniature(path, values, corner(), Reading())


def alpha_of_tiff(folder):
    values = texture(4)
    values[..., 3] = np.where(corner(), 0, 255)
    roles = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    path = write_raster(folder / 'a.tif', values, colorinterp=roles)
    return Miniature(path, values[..., :3], corner(), Reading())


def alpha_of_png(folder):
    values = texture(4)
    values[..., 3] = np.where(corner(), 0, 255)
    Image.fromarray(values).save(folder / 'a.png')
    return Miniature(folder / 'a.png', values[..., :3], corner(), Reading())


def alpha_of_palette_png(folder):
    indices = np.zeros((HEIGHT, WIDTH), np.uint8)
    indices[corner()] = 1
    image = Image.fromarray(indices, 'P')
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.save(folder / 'a.png', transparency=1)
    values = np.broadcast_to(np.uint8([10, 20, 30]), (HEIGHT, WIDTH, 3))
    return Miniature(folder / 'a.png', values, corner(), Reading(), gdal_mask=False)


def infrared_without_role(folder):
    values = texture(4)
    values[corner(), 3] = 0
    roles = [ColorInterp.red, ColorInterp.green, ColorInterp.blue]
    path = write_raster(
        folder / 'a.tif', values, colorinterp=[*roles, ColorInterp.undefined]
    )
    return Miniature(path, values, NOTHING, Reading(num_bands=4))


def infrared_that_gdal_calls_alpha(folder):
    values = texture(4)
    values[corner(), 3] = 0
    path = write_raster(folder / 'a.tif', values, photometric='RGB', alpha='YES')
    with rasterio.open(path) as source:
        assert source.colorinterp[3] == ColorInterp.alpha
    reading = Reading(num_bands=4)
    return Miniature(path, values, NOTHING, reading, gdal_mask=False)


def palette_of_tiff(folder):
    indices = np.random.default_rng(0).integers(0, 4, (HEIGHT, WIDTH, 1), np.uint8)
    colours = {0: (1, 2, 3), 1: (40, 50, 60), 2: (250, 0, 9), 3: (7, 200, 100)}
    path = write_raster(folder / 'a.tif', indices)
    with rasterio.open(path, 'r+') as target:
        target.write_colormap(1, colours)
    values = np.uint8([colours[index] for index in range(4)])[indices[..., 0]]
    return Miniature(path, values, NOTHING, Reading())


def palette_of_png(folder):
    indices = np.random.default_rng(0).integers(0, 3, (HEIGHT, WIDTH), np.uint8)
    image = Image.fromarray(indices, 'P')
    image.putpalette([1, 2, 3, 40, 50, 60, 250, 0, 9])
    image.save(folder / 'a.png')
    return Miniature(
        folder / 'a.png', np.asarray(image.convert('RGB')), NOTHING, Reading()
    )


def deep(folder):
    values = texture(3, 0, 65535, np.uint16)
    path = write_raster(folder / 'a.tif', values)
    return Miniature(path, values, NOTHING, Reading(value_range=(1000, 40000)))


def deep_by_band(folder):
    values = texture(3, 0, 9000, np.uint16)
    path = write_raster(folder / 'a.tif', values)
    ranges = ((0, 3000), (100, 9000), (5000, 6000))
    return Miniature(path, values, NOTHING, Reading(value_range=ranges))


def deep_png(folder):
    values = texture(1, 0, 65535, np.uint16)
    Image.fromarray(values[..., 0]).save(folder / 'a.png')
    return Miniature(folder / 'a.png', values, NOTHING, Reading(num_bands=1))


def signed_with_marker(folder):
    values = texture(2, 0, 3000, np.int16)
    values[corner()] = -9999
    path = write_raster(folder / 'a.tif', values, nodata=-9999)
    reading = Reading(num_bands=2, value_range=(0, 3000))
    return Miniature(path, values, corner(), reading)


def untagged_nan(folder):
    values = texture(2, -1, 1, np.float32)
    values[corner()] = np.nan
    path = write_raster(folder / 'a.tif', values)
    reading = Reading(num_bands=2, value_range=(-1, 1))
    return Miniature(path, values, corner(), reading, gdal_mask=False)


def large_integers(folder):
    values = (texture(2, 0, 200, np.uint32) + 4_000_000_000).astype(np.uint32)
    path = write_raster(folder / 'a.tif', values)
    reading = Reading(num_bands=2, value_range=(4_000_000_000, 4_000_000_200))
    return Miniature(path, values, NOTHING, reading)


def large_offset(folder):
    values = texture(2, 0, 1, np.float64) + 1e8
    path = write_raster(folder / 'a.tif', values)
    reading = Reading(num_bands=2, value_range=(1e8, 1e8 + 1))
    return Miniature(path, values, NOTHING, reading)


def one_bit(folder):
    bits = np.random.default_rng(0).integers(0, 2, (HEIGHT, WIDTH, 1), np.uint8)
    path = write_raster(folder / 'a.tif', bits, nbits=1)
    return Miniature(path, bits * np.uint8(255), NOTHING, Reading(num_bands=1))


def one_bit_png(folder):
    bits = np.random.default_rng(0).integers(0, 2, (HEIGHT, WIDTH), np.uint8)
    Image.fromarray(bits * np.uint8(255)).convert('1').save(folder / 'a.png')
    values = bits[..., None] * np.uint8(255)
    return Miniature(folder / 'a.png', values, NOTHING, Reading(num_bands=1))


def radar(folder):
    amplitude = texture(1, 0, 100, np.float32)
    phase = np.exp(1j * texture(1, 0, 6, np.float32))
    path = write_raster(folder / 'a.tif', (amplitude * phase).astype(np.complex64))
    reading = Reading(num_bands=1, value_range=(0, 100))
    return Miniature(path, amplitude, NOTHING, reading)


def turned_tiff(folder):
    values = texture(3)
    Image.fromarray(values).save(folder / 'a.tif', tiffinfo={274: 6})
    return Miniature(folder / 'a.tif', values, NOTHING, Reading())


def turned_png(folder):
    values, exif = texture(3), Image.Exif()
    exif[274] = 6
    Image.fromarray(values).save(folder / 'a.png', exif=exif)
    return Miniature(folder / 'a.png', values, NOTHING, Reading())


def turned_jpeg(folder):
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(texture(3)).save(folder / 'a.jpg', exif=exif)
    values = np.asarray(Image.open(folder / 'a.jpg'))
    return Miniature(folder / 'a.jpg', values, NOTHING, Reading())


def jpeg_with_trailer(folder):
    """Bytes after the end, such as a phone's or a second image, markers among them."""
    path = folder / 'a.jpg'
    Image.fromarray(texture(3)).save(path)
    values = np.asarray(Image.open(path))
    generator = np.random.default_rng(0)
    trailer = generator.integers(0, 256, 200_000, np.uint8).tobytes()
    path.write_bytes(path.read_bytes() + trailer + b'\xff\xda' + bytes(99))
    return Miniature(path, values, NOTHING, Reading())


def jpeg_inside_tiff(folder):
    path = write_raster(
        folder / 'a.tif', texture(3), compress='JPEG', photometric='YCBCR'
    )
    with rasterio.open(path) as source:
        values = source.read().transpose(1, 2, 0)
    return Miniature(path, values, NOTHING, Reading())


def compressed_with_zstd(folder):
    values = texture(3)
    path = write_raster(folder / 'a.tif', values, compress='ZSTD')
    return Miniature(path, values, NOTHING, Reading())


def compressed_with_lerc(folder):
    values = texture(3)
    path = write_raster(folder / 'a.tif', values, compress='LERC')
    return Miniature(path, values, NOTHING, Reading())


def grey(folder):
    values = texture(1)
    path = write_raster(folder / 'a.tif', values)
    return Miniature(path, values.repeat(3, axis=2), NOTHING, Reading())


def grey_png(folder):
    values = texture(1)
    Image.fromarray(values[..., 0]).save(folder / 'a.png')
    return Miniature(folder / 'a.png', values.repeat(3, axis=2), NOTHING, Reading())


def odd_name(folder):
    values = texture(3)
    path = write_raster(folder / 'a b#1 50% ü.tif', values)
    return Miniature(path, values, NOTHING, Reading())


def stack_of_files(folder):
    """A VRT with one band from each of three files."""
    values = texture(3)
    for band in range(3):
        write_raster(folder / f'b{band}.tif', values[..., band : band + 1])
    bands = ''.join(
        f'<VRTRasterBand dataType="Byte" band="{band + 1}"><SimpleSource>'
        f'<SourceFilename relativeToVRT="1">b{band}.tif</SourceFilename>'
        '<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>'
        for band in range(3)
    )
    path = folder / 'a.vrt'
    path.write_text(
        f'<VRTDataset rasterXSize="{WIDTH}" rasterYSize="{HEIGHT}">{bands}</VRTDataset>'
    )
    return Miniature(path, values, NOTHING, Reading())


def mosaic(folder):
    """A VRT of two files side by side, the place between them empty."""
    values = texture(1)
    values[:, 24:40] = 0
    for name, left in (('left', 0), ('right', 40)):
        part = values[:, left : left + 24]
        write_raster(folder / f'{name}.tif', np.ascontiguousarray(part))
    sources = ''.join(
        '<ComplexSource>'
        f'<SourceFilename relativeToVRT="1">{name}.tif</SourceFilename>'
        f'<SourceBand>1</SourceBand><SrcRect xOff="0" yOff="0" xSize="24" '
        f'ySize="{HEIGHT}"/>'
        f'<DstRect xOff="{left}" yOff="0" xSize="24" ySize="{HEIGHT}"/>'
        '<NODATA>0</NODATA></ComplexSource>'
        for name, left in (('left', 0), ('right', 40))
    )
    path = folder / 'a.vrt'
    path.write_text(
        f'<VRTDataset rasterXSize="{WIDTH}" rasterYSize="{HEIGHT}">'
        '<VRTRasterBand dataType="Byte" band="1"><NoDataValue>0</NoDataValue>'
        f'{sources}</VRTRasterBand></VRTDataset>'
    )
    missing = np.zeros((HEIGHT, WIDTH), bool)
    missing[:, 24:40] = True
    return Miniature(path, values, missing, Reading(num_bands=1))


MAKERS: list[Callable[[Path], Miniature]] = [
    plain,
    nodata_tag,
    nodata_in_other_bands_too,
    nodata_by_option,
    nodata_of_png_by_option,
    internal_mask,
    mask_beside,
    alpha_of_tiff,
    alpha_of_png,
    alpha_of_palette_png,
    infrared_without_role,
    infrared_that_gdal_calls_alpha,
    palette_of_tiff,
    palette_of_png,
    deep,
    deep_by_band,
    deep_png,
    signed_with_marker,
    untagged_nan,
    large_integers,
    large_offset,
    one_bit,
    one_bit_png,
    radar,
    turned_tiff,
    turned_png,
    turned_jpeg,
    jpeg_with_trailer,
    jpeg_inside_tiff,
    compressed_with_zstd,
    compressed_with_lerc,
    grey,
    grey_png,
    odd_name,
    stack_of_files,
    mosaic,
]
