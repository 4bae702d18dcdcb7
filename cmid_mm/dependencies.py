# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Which versions of other packages are needed, and what becomes of types without."""

import importlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__version__ = '0.1.0'

#: Oldest versions with everything that is used here.
MINIMUM_VERSIONS = {'mmengine': '0.8.3', 'mmcv': '2.0.0', 'mmpretrain': '1.0.0'}
#: The same of the packages for single tasks, any of which may be missing.
SEGMENTATION_VERSIONS = {'mmseg': '1.0.0'}
DETECTION_VERSIONS = {'mmdet': '3.0.0', 'mmrotate': '1.0.0rc1'}

#: What to do where :data:`OPERATORS` cannot be imported.
NO_OPERATORS = (
    'cmid_mm needs mmcv with compiled operators for detection; reinstall it with '
    'MMCV_WITH_OPS=1 pip install --no-cache-dir --no-build-isolation --force-reinstall '
    '--no-deps onedl-mmcv'
)
OPERATORS = 'mmcv._ext'


def check_dependencies(minimum_versions: dict[str, str]) -> None:
    """Check that packages are installed in sufficient versions.

    Args:
        minimum_versions: Oldest version by name of the package.

    Raises:
        ImportError: If one is missing or too old; says what to install.
    """
    for name, minimum in minimum_versions.items():
        is_of_task = name in _TASK_VERSIONS
        extra, file = ('tasks', 'optional') if is_of_task else ('mm', 'mminstall')
        advice = (
            f'cmid_mm needs {name}>={minimum}; pip install {_extra(extra, file)} takes '
            'tested versions'
        )
        try:
            found = importlib.import_module(name).__version__
        # OpenMMLab's packages assert that they suit each other.
        except (ImportError, AssertionError) as error:
            raise ImportError(f'{advice}: {error}') from error
        from mmengine.utils import digit_version

        if digit_version(found) < digit_version(minimum):
            raise ImportError(f'{advice}; found {name} {found}')


_TASK_VERSIONS = {**SEGMENTATION_VERSIONS, **DETECTION_VERSIONS}


def _extra(name: str, file: str) -> str:
    """What pip is given, in an environment with this package or in a checkout."""
    return f"'cmid_mm[{name}]' (in a checkout: -r requirements/{file}.txt)"


def check_operators() -> None:
    """Check that mmcv has its compiled operators.

    Raises:
        ImportError: If it has none; says how to get them.
    """
    try:
        importlib.import_module(OPERATORS)
    except ImportError as error:
        raise ImportError(f'{NO_OPERATORS}: {error}') from error


def vector_library() -> Any:
    """The package that reads and writes vector layers: geopandas, with pyogrio.

    Raises:
        ImportError: If either is missing; says what to install.
    """
    try:
        importlib.import_module('pyogrio')
        return importlib.import_module('geopandas')
    except ImportError as error:
        raise ImportError(
            'vector layers (GeoPackage, GeoJSON, Shapefile, ...) need geopandas and '
            f"pyogrio: pip install 'geopandas>=1' pyogrio ({error})"
        ) from error


def onnx_runtime() -> Any:
    """The package that runs ONNX files.

    Raises:
        ImportError: If it is missing; says what to install.
    """
    return _onnx('onnxruntime')


def onnx_exporter() -> None:
    """Check that all packages are there that write and check ONNX files.

    Raises:
        ImportError: If one is missing; says what to install.
    """
    for name in ('onnx', 'onnxscript', 'onnxruntime'):
        _onnx(name)


def _onnx(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f'ONNX needs {name}: pip install {_extra("onnx", "onnx")} ({error}); '
            'files of torch.export (.pt2) need nothing more'
        ) from error


def parquet_library() -> tuple[Any, Any]:
    """The package that reads and writes Parquet, and its module for that.

    Raises:
        ImportError: If it, or shapely and pyproj for the polygons, is missing; says
            what to install.
    """
    try:
        for name in ('shapely', 'pyproj'):
            importlib.import_module(name)
        return (
            importlib.import_module('pyarrow'),
            importlib.import_module('pyarrow.parquet'),
        )
    except ImportError as error:
        raise ImportError(
            'vectors of images that have a place are GeoParquet, which needs pyarrow '
            f"and geopandas: pip install pyarrow 'geopandas>=1' ({error})"
        ) from error


def timm_library() -> Any:
    """timm, of which some backbones are.

    Raises:
        ImportError: If it is missing or too old; says what to install.
    """
    try:
        importlib.import_module('timm.models.hiera')
        return importlib.import_module('timm')
    except ImportError as error:
        raise ImportError(
            f"Hiera needs timm: pip install 'timm>=1.0.20' ({error})"
        ) from error


def check_scope(scope: str | None) -> None:
    """Check that the package is there whose types a config names.

    Args:
        scope: ``default_scope`` of the config.

    Raises:
        ImportError: If it is a package that this one can do without, and missing or
            too old.
    """
    check_dependencies({k: v for k, v in _TASK_VERSIONS.items() if k == scope})


@contextmanager
def without_notices() -> Iterator[None]:
    """Where the OpenMMLab packages are imported, silence about a client of theirs.

    Several print to the standard output that they could not import it, through
    mmengine's ``print_log`` at its debug level.
    """
    if importlib.util.find_spec('mmengine') is None:
        yield
        return
    from mmengine.logging import logger

    def print_others(message: Any) -> None:
        if not str(message).startswith('Could not import OneDL'):
            print(message)

    # Shadows the built-in function in that module alone.
    vars(logger)['print'] = print_others
    try:
        yield
    finally:
        del vars(logger)['print']


@contextmanager
def registered_or_explained(registry: Any, *names: str) -> Iterator[None]:
    """Where an import fails that registers types, let building them say why.

    Around the import of modules that need packages which may be missing, so that
    all types are known from one import and everything else works without them.

    Args:
        registry: The registry of mmengine that has the types.
        *names: The types that the modules register.
    """
    try:
        yield
    except (ImportError, AssertionError) as error:
        for name in set(names) - registry.module_dict.keys():
            registry.register_module(name, module=_stand_in(name, str(error)))


def _stand_in(name: str, reason: str) -> Any:
    def explain(*args: Any, **kwargs: Any) -> None:
        raise ImportError(f'{name} is not available: {reason}')

    return explain
