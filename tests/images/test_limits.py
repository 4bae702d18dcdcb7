# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import os
import socket
import struct
import zlib

import numpy as np
import pytest
import rasterio

from cmid_mm.images import (
    IMAGE_EXTENSIONS,
    ImageFile,
    Reading,
    UnreadableImageError,
    find_images,
    load_image,
    read_header,
    tile_windows,
)
from cmid_mm.images.limits import LIMIT_VARIABLE

PYTHON = """<VRTDataset rasterXSize="8" rasterYSize="8">
<VRTRasterBand dataType="Byte" band="1" subClass="VRTDerivedRasterBand">
<PixelFunctionLanguage>Python</PixelFunctionLanguage>
<PixelFunctionType>run</PixelFunctionType><PixelFunctionCode><![CDATA[
open('{mark}', 'w').close()
def run(in_ar, out_ar, *args, **kwargs):
    open('{mark}', 'w').close()
    out_ar[:] = 1
]]></PixelFunctionCode>
<SimpleSource><SourceFilename relativeToVRT="1">x.tif</SourceFilename>
<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"""


def write_tiff(path, **options):
    options = {'height': 8, 'width': 8, 'count': 3, **options}
    with rasterio.open(path, 'w', driver='GTiff', dtype='uint8', **options) as file:
        if options['height'] * options['width'] < 1 << 20:
            file.write(np.full([options[k] for k in ('count', 'height', 'width')], 9))
    return path


def vrt_of(source, relative=1):
    return (
        '<VRTDataset rasterXSize="8" rasterYSize="8"><VRTRasterBand dataType="Byte" '
        f'band="1"><SimpleSource><SourceFilename relativeToVRT="{relative}">{source}'
        '</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>'
        '</VRTDataset>'
    )


def png(width, height, colour=2):
    """A PNG whose header says a size; its pixels are those of a few rows."""

    def chunk(kind, data):
        check = zlib.crc32(kind + data)
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', check)

    header = struct.pack('>IIBBBBB', width, height, 8, colour, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    chunks = [chunk(b'IHDR', header), chunk(b'IDAT', body), chunk(b'IEND', b'')]
    return b'\x89PNG\r\n\x1a\n' + b''.join(chunks)


def pipe(path):
    os.mkfifo(path)


def listening(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


# -- What is no file ----------------------------------------------------------------


@pytest.mark.parametrize('make', [pipe, listening])
@pytest.mark.parametrize('ending', IMAGE_EXTENSIONS)
def test_what_is_no_file_is_refused_without_waiting(tmp_path, make, ending):
    path = tmp_path / f'x{ending}'
    make(path)
    for read in (read_header, load_image, ImageFile):
        with pytest.raises(UnreadableImageError, match=f'x{ending}: not a regular'):
            read(path)
    assert find_images(tmp_path) == []


def test_device_is_refused():
    with pytest.raises(UnreadableImageError, match='/dev/zero: not a regular'):
        load_image('/dev/zero')


@pytest.mark.parametrize(
    'name', ['x.tif.ovr', 'x.tif.msk', 'x.aux', 'x.tfw', 'x.WLD', 'x.tab', 'x_RPC.TXT']
)
def test_pipe_beside_a_raster_is_refused(tmp_path, name):
    path = write_tiff(tmp_path / 'x.tif')
    ImageFile(path).close()
    pipe(tmp_path / name)
    with pytest.raises(UnreadableImageError, match=f'{name}: not a regular'):
        ImageFile(path)


@pytest.mark.parametrize('depth', [1, 2])
def test_pipe_that_a_vrt_names_is_refused(tmp_path, depth):
    pipe(tmp_path / 'a&b.dat')
    (tmp_path / 'x0.vrt').write_text(vrt_of('a&amp;b.dat'))
    (tmp_path / 'x1.vrt').write_text(vrt_of(tmp_path / 'x0.vrt', relative=0))
    with pytest.raises(UnreadableImageError, match='a&b.dat: not a regular'):
        load_image(tmp_path / f'x{depth - 1}.vrt', Reading(1))


@pytest.mark.parametrize('name', ['pipe.tif', '/vsistdin/', '/vsigzip/{}/pipe.tif'])
@pytest.mark.parametrize('ending', ['.bands', '.mosaic', '.vrt'])
def test_pipe_within_a_composite_is_refused(tmp_path, ending, name):
    pipe(tmp_path / 'pipe.tif')
    name = name.format(tmp_path)
    path = tmp_path / f'x{ending}'
    path.write_text(
        vrt_of(name, int(not name.startswith('/'))) if ending == '.vrt' else name
    )
    with pytest.raises(UnreadableImageError, match='not a regular|standard input'):
        load_image(path, Reading(1))


def test_endless_links_end_and_are_said(tmp_path, caplog):
    (tmp_path / 'loop.png').symlink_to('loop.png')
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'folder' / 'up').symlink_to(tmp_path)
    (tmp_path / 'folder.png').mkdir()
    image = write_tiff(tmp_path / 'folder.png' / 'x.tif')
    assert find_images(tmp_path) == [image]
    for name in ('loop.png', 'folder.png'):
        with pytest.raises(UnreadableImageError, match=name):
            load_image(tmp_path / name)


# -- What says to be large ------------------------------------------------------------


@pytest.mark.parametrize('colour', [0, 2, 3, 6])
def test_png_of_a_huge_size_is_refused_with_it(tmp_path, colour):
    path = tmp_path / 'x.png'
    path.write_bytes(png(60_000, 60_000, colour))
    assert read_header(path).shape == (60_000, 60_000)
    with pytest.raises(UnreadableImageError, match=r'x.png: 60000 x 60000 .* GiB'):
        load_image(path)


def test_jpeg_that_is_reduced_takes_as_much_less(tmp_path, monkeypatch):
    from PIL import Image

    path = tmp_path / 'x.jpg'
    Image.fromarray(np.full((256, 256, 3), 9, np.uint8)).save(path)
    monkeypatch.setenv(LIMIT_VARIABLE, str(128 * 128 * 3))
    assert load_image(path, Reading(size=64)).shape == (64, 64, 3)
    with pytest.raises(UnreadableImageError, match='256 x 256'):
        load_image(path)


def test_huge_tiff_is_read_by_windows_but_not_whole(tmp_path):
    options = dict(tiled=True, sparse_ok=True, compress='deflate')
    path = write_tiff(tmp_path / 'x.tif', height=100_000, width=100_000, **options)
    assert load_image(path, window=(50_000, 50_000, 64, 64)).shape == (64, 64, 3)
    with pytest.raises(UnreadableImageError, match='100000 x 100000 .* 27.9 GiB'):
        load_image(path)


def test_tiff_of_one_huge_block_is_refused(tmp_path):
    options = dict(sparse_ok=True, compress='deflate', count=1)
    shape = dict(height=60_000, width=60_000, blockysize=60_000)
    with rasterio.Env(GTIFF_WRITE_TOWARDS_END='YES'):
        path = write_tiff(tmp_path / 'x.tif', **shape, **options)
    with pytest.raises(UnreadableImageError):
        load_image(path, Reading(1), window=(0, 0, 8, 8))


def test_jpeg2000_of_a_huge_size_is_refused(tmp_path):
    path = tmp_path / 'x.jp2'
    with rasterio.open(
        path, 'w', driver='JP2OpenJPEG', height=64, width=64, count=1, dtype='uint8'
    ) as file:
        file.write(np.zeros((1, 64, 64), np.uint8))
    content = path.read_bytes()
    # The header box has the height and the width, the codestream both once more.
    sides = struct.pack('>II', 64, 64)
    assert content.count(sides) >= 3
    path.write_bytes(content.replace(sides, struct.pack('>II', 70_000, 70_000)))
    with pytest.raises(UnreadableImageError, match='x.jp2'):
        load_image(path, Reading(1))


def test_huge_file_is_not_read_whole(tmp_path):
    path = tmp_path / 'x.png'
    path.write_bytes(png(8, 8))
    os.truncate(path, 1 << 40)
    with pytest.raises(UnreadableImageError, match='1,024.0 GiB'):
        load_image(path)


def test_too_many_windows_are_refused():
    assert len([*tile_windows(1000, 1000, 10, 0)]) == 10_000
    with pytest.raises(ValueError, match=r'x.vrt: 2147483647 x 2147483647 pixels'):
        next(tile_windows(2**31 - 1, 2**31 - 1, 224, 0, 'x.vrt'))


# -- What holds something else ---------------------------------------------------------


def test_code_in_a_vrt_does_not_run(tmp_path, monkeypatch):
    monkeypatch.setenv('GDAL_VRT_ENABLE_PYTHON', 'YES')
    write_tiff(tmp_path / 'x.tif', count=1)
    path, mark = tmp_path / 'x.vrt', tmp_path / 'ran'
    path.write_text(PYTHON.format(mark=mark))
    with pytest.raises(UnreadableImageError, match='Python'):
        load_image(path, Reading(1))
    assert not mark.exists()


def test_entities_of_a_vrt_are_not_expanded(tmp_path):
    names = 'abcdefghijklmnop'
    entities = ''.join(
        f'<!ENTITY {name} "{f"&{before};" * 10}">'
        for before, name in zip(names, names[1:], strict=False)
    )
    text = f'<!DOCTYPE x [<!ENTITY a "{"a" * 1000}">{entities}]>'
    path = tmp_path / 'x.vrt'
    path.write_text(text[:900] + vrt_of('&p;.tif') + text[900:])
    with pytest.raises(UnreadableImageError):
        load_image(path, Reading(1))


@pytest.mark.parametrize('ending', ['.tif', '.png', '.jp2', '.vrt'])
def test_other_formats_are_no_images(tmp_path, ending):
    # GDAL would ask the server for its tiles.
    path = tmp_path / f'x{ending}'
    path.write_text(
        '<GDAL_WMS><Service name="TMS"><ServerUrl>http://127.0.0.1:9/${z}</ServerUrl>'
        '</Service><DataWindow><SizeX>8</SizeX><SizeY>8</SizeY></DataWindow>'
        '<BandsCount>3</BandsCount></GDAL_WMS>'
    )
    with pytest.raises(UnreadableImageError, match='not recognized'):
        read_header(path)
