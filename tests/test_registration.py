# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""One import makes every type known, in every scope, with any packages missing."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import mmpretrain.models
import pytest
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.registry import TRANSFORMS

import cmid_mm
from cmid_mm.configs import load_config
from cmid_mm.datasets import LoadImagery
from tests.toy import toy_config

PACKAGE = Path(cmid_mm.__file__).parent
SCOPES = ('mmengine', 'mmpretrain', 'mmseg', 'mmdet', 'mmrotate')

LOOKING_UP = """
import json, sys
from mmengine.config import Config
from mmengine.registry import DefaultScope, root

Config.fromfile(sys.argv[1])
found = {}
for scope in sys.argv[2:]:
    found[scope] = []
    with DefaultScope.overwrite_default_scope(scope):
        for registry in vars(root).values():
            if not isinstance(registry, root.Registry):
                continue
            ours = [
                name
                for name, kind in registry.module_dict.items()
                if kind.__module__.startswith('cmid_mm.')
            ]
            with registry.switch_scope_and_registry(None) as scoped:
                found[scope] += [
                    name
                    for name in ours
                    if scoped.get(name) is registry.module_dict[name]
                ]
print(json.dumps(found))
"""


def registered_names() -> set[str]:
    """Names of all classes of the package below a ``register_module``."""
    classes = [
        node
        for file in PACKAGE.rglob('*.py')
        for node in ast.walk(ast.parse(file.read_text(encoding='utf-8')))
        if isinstance(node, ast.ClassDef)
    ]
    return {
        node.name
        for node in classes
        if any('register_module' in ast.unparse(d) for d in node.decorator_list)
    }


def run(code: str, *args: str) -> str:
    result = subprocess.run(
        [sys.executable, '-c', code, *args], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout.splitlines()[-1]


def test_one_import_makes_all_types_known_in_every_scope(tmp_path):
    file = tmp_path / 'config.py'
    file.write_text("custom_imports = dict(imports=['cmid_mm'])\n")
    found = json.loads(run(LOOKING_UP, str(file), *SCOPES))
    expected = {*registered_names(), 'MultiBandSegDataPreProcessor'}
    assert {'LoadImagery', 'BITHead', 'OrientedBoxFolder', 'CMID'} < expected
    assert {scope: expected - set(names) for scope, names in found.items()} == {
        scope: set() for scope in SCOPES
    }


@pytest.mark.parametrize(
    ('missing', 'kind', 'registry', 'message'),
    [
        ('mmseg', 'BITHead', 'MODELS', 'needs mmseg>=1.0.0; .*optional.txt'),
        ('mmrotate', 'OrientedBoxFolder', 'DATASETS', 'needs mmrotate>=1.0.0rc1'),
        ('mmcv._ext', 'RotatedTTAModel', 'MODELS', 'needs mmcv with compiled operat'),
    ],
)
def test_a_missing_package_is_named_by_what_needs_it(missing, kind, registry, message):
    code = f"""
import re, sys
sys.modules[{missing!r}] = None
import cmid_mm
from mmengine.registry import {registry}, MODELS
assert MODELS.build(dict(type='FocalL1Loss')) is not None
try:
    {registry}.build(dict(type={kind!r}))
except ImportError as error:
    assert re.search({kind + ' is not available: .*' + message!r}, str(error)), error
    print('explained')
"""
    assert run(code) == 'explained'


def test_a_config_of_a_missing_package_is_refused_with_its_name(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmrotate', None)
    file = tmp_path / 'config.py'
    file.write_text("default_scope = 'mmrotate'\n")
    with pytest.raises(ImportError, match='needs mmrotate>=1.0.0rc1; .*optional.txt'):
        load_config(str(file))


@pytest.mark.parametrize('scope', SCOPES)
def test_parts_are_those_of_mmpretrain_in_every_scope(scope):
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(toy_config())
    assert type(model.student.backbone) is mmpretrain.models.ResNet


def test_the_loader_keeps_the_name_it_had_among_those_of_mmpretrain():
    assert TRANSFORMS.get('mmpretrain.LoadImagery') is LoadImagery
