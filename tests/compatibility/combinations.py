# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Environments in which the tests are run for docs/compatibility.md."""

from dataclasses import dataclass

FORKS = ('-r', 'requirements/mminstall.txt', '-r', 'requirements/optional.txt')
#: Packages of OpenMMLab itself, and the forks in whose place they come. Their own
#: requirements name versions that no longer install, so that those of the forks serve.
#: There is no mmrotate for this mmdet, theirs (1.0.0rc1) or the fork's.
UPSTREAM = (
    'mmengine==0.10.7',
    'mmcv-lite==2.1.0',
    'mmpretrain==1.2.0',
    'mmsegmentation==1.2.2',
    'mmdet==3.3.0',
)
REPLACED = (
    'onedl-mmengine',
    'onedl-mmcv',
    'onedl-mmpretrain',
    'onedl-mmsegmentation',
    'onedl-mmdetection',
    'onedl-mmrotate',
)
CURRENT = ('torch==2.11.0', 'torchvision==0.26.0')


@dataclass(frozen=True)
class Combination:
    """What is installed.

    Attributes:
        name: Name of the row.
        python: Version of Python; ``pythonX.Y`` must be found.
        torch: Requirements of torch and torchvision.
        pins: Further requirements, which the others must suit.
        upstream: Packages in the place of the forks, without what they require.
        fits: Whether the compiled operators of mmcv in ``--wheels`` were built for
            this Python and torch; without them oriented detection is left out.
    """

    name: str
    python: str
    torch: tuple[str, ...] = CURRENT
    pins: tuple[str, ...] = ()
    upstream: tuple[str, ...] = ()
    fits: bool = False


COMBINATIONS = (
    Combination('as in CI', '3.11', fits=True),
    Combination(
        'oldest',
        '3.10',
        ('torch==2.5.1', 'torchvision==0.20.1'),
        ('numpy==2.1.*', 'opencv-python-headless==4.10.*'),
    ),
    Combination(
        'newest',
        '3.12',
        ('torch', 'torchvision'),
        ('numpy>=2.5', 'opencv-python-headless>=5'),
    ),
    Combination('packages of OpenMMLab', '3.11', upstream=UPSTREAM, fits=True),
)
