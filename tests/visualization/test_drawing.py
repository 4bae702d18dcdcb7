# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import numpy as np

from cmid_mm.visualization.drawing import shortened, text_width, write_text


def test_letters_of_other_languages_are_written():
    """Not as question marks, of which all look alike."""
    pictures = []
    for text in ('ä', 'я', '?'):
        image = np.zeros((40, 40, 3), np.uint8)
        write_text(image, text, 10, 30, outline=False)
        assert image.any()
        pictures.append(image.tobytes())
    assert len(set(pictures)) == 3


def test_text_beyond_the_picture_is_cut():
    image = np.zeros((20, 30, 3), np.uint8)
    for left, baseline in ((-5, 12), (25, 12), (5, 2), (5, 60), (90, 10)):
        write_text(image, 'text', left, baseline)
    assert image.any()


def test_a_long_text_is_shortened_in_its_middle():
    assert shortened('harbour.tif', 160) == 'harbour.tif'
    short = shortened('S2A_MSIL1C_20170105T013442_N0204_R031_T53NMJ.SAFE', 160)
    assert short.startswith('S2A_MSIL') and short.endswith('NMJ.SAFE')
    assert 130 < text_width(short, 0.45) <= 160
