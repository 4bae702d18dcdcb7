# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import json
import textwrap

import pytest
import yaml
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from PIL import Image

from cmid_mm.comparison import check_spec, plan, read_spec


@MODELS.register_module()
class Network(BaseModel):
    def __init__(self, depth=18, width=1, **others):
        super().__init__()
        if depth < width:
            raise ValueError(f'depth={depth} is less than width={width}')

    def forward(self, inputs, data_samples=None, mode='tensor'): ...


# Stand-ins for the tools: they keep to the same command line and leave the same kinds
# of files, but take no time. TOLD lists every call.
TRAIN = """
    import argparse, json, pathlib, sys
    parser = argparse.ArgumentParser()
    parser.add_argument('config', type=pathlib.Path)
    parser.add_argument('--work-dir', type=pathlib.Path)
    parser.add_argument('--data-root', type=pathlib.Path)
    parser.add_argument('--backbone-checkpoint', type=pathlib.Path)
    parser.add_argument('--resume', action='store_true')
    args = parser.parse_args()
    with open(pathlib.Path(__file__).with_name('told'), 'a') as told:
        told.write(f'{args.work_dir}\\n')
    if (args.data_root / 'broken').exists() and 'cmid' in str(args.work_dir):
        sys.exit('error: image x.png is truncated')
    weights = args.backbone_checkpoint
    begun = weights.read_text() if weights else 'random'
    logs = args.work_dir / '1' / 'vis_data'
    logs.mkdir(parents=True, exist_ok=True)
    (logs / 'scalars.json').write_text('{"time": 0.2}\\n{"time": 0.4}\\n{"lr": 1}\\n')
    origin = args.config.read_text().splitlines()[0]
    checkpoint = args.work_dir / 'epoch_1.pth'
    checkpoint.write_text(f'{begun} | {origin}')
    (args.work_dir / 'last_checkpoint').write_text(str(checkpoint))
"""
TEST = """
    import argparse, json, pathlib, sys
    parser = argparse.ArgumentParser()
    parser.add_argument('config')
    parser.add_argument('checkpoint', type=pathlib.Path)
    for name in ('--work-dir', '--data-root', '--json'):
        parser.add_argument(name)
    args = parser.parse_args()
    if (pathlib.Path(args.data_root) / 'mute').exists():
        sys.exit()
    weights = args.checkpoint.read_text()
    value = 0.75 if weights.count('|') == 2 else 0.5
    pathlib.Path(args.json).write_text(json.dumps(dict(metrics=dict(F1=value))))
"""
FEATURES = """
    import argparse, json, pathlib
    parser = argparse.ArgumentParser()
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('--backbone-only', action='store_true')
    parser.add_argument('--train')
    parser.add_argument('--test')
    parser.add_argument('--size', type=int)
    parser.add_argument('--seed', type=int)
    parser.add_argument('--json')
    args = parser.parse_args()
    value = 40 + args.seed + (10 if args.checkpoint != 'random' else 0)
    value += 5 * (args.checkpoint != 'random' and args.seed == 2)
    pathlib.Path(args.json).write_text(json.dumps(dict(knn_top1=value)))
"""
CONFIG = """
    model = dict(type='Network', depth=18)
    train_cfg = dict(max_epochs=30)
    param_scheduler = [
        dict(type='LinearLR', end=1),
        dict(type='CosineAnnealingLR', begin=1, end=30, T_max=29),
    ]
    test_dataloader = dict(batch_size=1)
    test_evaluator = dict(type='ChangeDetectionMetric')
"""


def write_image(path, value=0, mode='RGB'):
    """A small image of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (32, 32), (value,) * len(mode)).save(path)


class Comparison:
    """A small comparison in a folder of its own, with stand-ins for the tools."""

    def __init__(self, folder):
        self.folder = folder
        self.tools = folder / 'tools'
        self.tools.mkdir()
        for name, text in dict(
            train=TRAIN, test=TEST, evaluate_features=FEATURES
        ).items():
            (self.tools / f'{name}.py').write_text(textwrap.dedent(text))
        self.config = folder / 'cmid_r18.py'
        self.config.write_text(textwrap.dedent(CONFIG))
        self.images = folder / 'images'
        for part, brightness in dict(train=0, test=9).items():
            for name in 'ab':
                write_image(self.images / part / name / '0.png', brightness)
        self.content = dict(
            output=str(folder / 'out'),
            data=dict(mine=str(self.images)),
            seeds=[0, 1, 2],
            backbones=dict(r18=str(self.config)),
            pretraining=dict(
                data=dict(mine=None), epochs=4, options={'model.width': 1}
            ),
            methods=dict(
                random=dict(label='random'),
                cmid=dict(
                    label='CMID',
                    config=str(folder / 'cmid_{backbone}.py'),
                    options={'model.depth': 34},
                ),
            ),
            tasks=dict(
                features=dict(
                    data='mine',
                    options=dict(train='train', test='test', size=64),
                    metrics=dict(knn_top1='20-NN'),
                ),
                change=dict(
                    data='mine',
                    config=str(self.config),
                    scale=100,
                    metrics=dict(F1='change F1'),
                ),
            ),
            reference='cmid',
        )

    def write(self):
        """Write the spec; returns its path."""
        file = self.folder / 'spec.yaml'
        file.write_text(yaml.safe_dump(self.content, sort_keys=False))
        return file

    def checked(self):
        """The spec as the command reads it."""
        file = self.write()
        spec = read_spec(file)
        check_spec(spec, file, inputs=spec)
        return spec

    def plan(self):
        """Its cells."""
        return plan(self.checked(), self.tools)

    @property
    def told(self):
        """Work folders of the trainings that were started, in their order."""
        file = self.tools / 'told'
        return file.read_text().split() if file.exists() else []

    def record(self, cell):
        """What a cell has kept."""
        return json.loads((self.folder / 'out' / cell / 'record.json').read_text())


@pytest.fixture
def comparison(tmp_path):
    return Comparison(tmp_path)
