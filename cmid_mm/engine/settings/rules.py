# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Settings that contradict each other: the one list of rules.

A rule looks at a whole config whose settings are each right by themselves, and yields a
text for each contradiction: the keys and what was found, what is expected, what to do.
It says nothing of what it does not know, such as parts of other packages.
"""

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from mmengine.dist import get_world_size

from ...configs import scope_of, type_name
from ..layout import accumulative_counts
from .places import (
    default_of,
    heads_of,
    is_of_views,
    model_of,
    parts_of,
    pipelines_of,
    preprocessor_of,
    step_of,
)
from .rules_of_training import (
    betas,
    hooks_in_epochs,
    learning_rate,
    monitored,
    optimizer_type,
)
from .rules_of_views import crops, decoder, views
from .widths import inputs_of_heads

_SPLITS = ('train', 'val', 'test')


def faults_of_rules(cfg: Config) -> Iterator[str]:
    """All contradictions of a config.

    Args:
        cfg: The config of a run.
    """
    with scope_of(cfg):
        for rule in RULES:
            yield from rule(cfg)


def _workers(cfg: Config) -> Iterator[str]:
    for split in _SPLITS:
        loader: Any = cfg.get(f'{split}_dataloader') or {}
        if loader.get('num_workers') != 0:
            continue
        for key in ('persistent_workers', 'prefetch_factor', 'timeout'):
            if loader.get(key):
                yield (
                    f'{split}_dataloader.{key}={loader[key]!r}, but '
                    f'{split}_dataloader.num_workers=0: expected at least one worker; '
                    f'set num_workers=1 or more, or leave {key} out'
                )


def _schedules(cfg: Config) -> Iterator[str]:
    """Warm-up and other schedules against the length of the run."""
    train_cfg: Any = cfg.get('train_cfg') or {}
    for path, schedule in parts_of(cfg.get('param_scheduler'), 'param_scheduler'):
        by_epoch = schedule.get('by_epoch', True)
        unit = 'max_epochs' if by_epoch else 'max_iters'
        other = 'max_iters' if by_epoch else 'max_epochs'
        length, name = train_cfg.get(unit), f'{path} ({type_name(schedule)})'
        begin, end = schedule.get('begin') or 0, schedule.get('end')
        if end is not None and begin >= end:
            yield f'{name}: begin={begin} and end={end}: expected begin below end'
        if by_epoch and not length and train_cfg.get(other):
            if not schedule.get('convert_to_iter_based'):
                yield (
                    f'{name} counts epochs, but train_cfg.{other}={train_cfg[other]}: '
                    'it would never move; set by_epoch=False of it, and its begin and '
                    'end in iterations'
                )
        if not isinstance(length, int):
            continue
        if _warms_up(schedule) and end is not None and end > length:
            yield (
                f'{name}: end={end}, but train_cfg.{unit}={length}: the warm-up is '
                'longer than the run; set end lower, or shorten the run with '
                f'--{unit.replace("_", "-")}, which scales its schedules'
            )


def _warms_up(schedule: Any) -> bool:
    first, last = schedule.get('start_factor', 1 / 3), schedule.get('end_factor', 1.0)
    return type_name(schedule) in ('LinearLR', 'LinearParamScheduler') and first < last


def _heads_in_time(cfg: Config) -> Iterator[str]:
    """Heads that begin after the run has ended, or by a clock that does not move."""
    train_cfg: Any = cfg.get('train_cfg') or {}
    epochs, iterations = train_cfg.get('max_epochs'), train_cfg.get('max_iters')
    for path, head in heads_of(cfg):
        for key in ('start_epoch', 'teacher_keys_from'):
            start = head.get(key)
            if start and not epochs and iterations:
                yield (
                    f'{path}.{key}={start}, but train_cfg.max_iters={iterations}: a '
                    'run that counts iterations has no epochs; set it to 0, or train '
                    'by epochs (train_cfg.max_epochs)'
                )
            if isinstance(epochs, int) and isinstance(start, int) and start >= epochs:
                yield (
                    f'{path}.{key}={start}, but train_cfg.max_epochs={epochs}: '
                    'expected an epoch of the run; set it lower, or train longer'
                )


def _stages(cfg: Config) -> Iterator[str]:
    """Stages that heads read, and those that the backbone gives."""
    backbone: Any = (model_of(cfg).get('encoder') or {}).get('backbone')
    if not isinstance(backbone, dict):
        return
    outputs = backbone.get('out_indices', default_of(backbone, 'out_indices'))
    count = len(outputs) if isinstance(outputs, list | tuple) else None
    if isinstance(outputs, int):
        count = 1
    for path, head in heads_of(cfg):
        stage = head.get('stage', -1)
        if count is not None and not -count <= stage < count:
            yield (
                f'{path}.stage={stage}, but the backbone gives {count} feature map(s) '
                f'(model.encoder.backbone.out_indices={outputs!r}); name more stages '
                'in out_indices'
            )


def _bands(cfg: Config) -> Iterator[str]:
    """Bands that are loaded, normalised and taken by the backbone."""
    where, preprocessor = preprocessor_of(cfg)
    mean = preprocessor.get('mean')
    if not isinstance(mean, list | tuple):
        return
    std = preprocessor.get('std')
    if isinstance(std, list | tuple) and len(std) != len(mean):
        yield (
            f'{where}.mean has {len(mean)} values and {where}.std {len(std)}: expected '
            'one of each for every band'
        )
        return
    for path, pipeline in pipelines_of(cfg, 'train'):
        loader = step_of(pipeline, 'LoadImagery')
        if not loader:
            continue
        bands = loader[1].get('bands')
        count = loader[1].get('num_bands') or (len(bands) if bands else 3)
        one_for_all = len(mean) == 1 and not is_of_views(preprocessor)
        if len(mean) != count and not one_for_all:
            yield (
                f'{where}.mean has {len(mean)} values, but {path}.{loader[0]} '
                f'(LoadImagery) loads {count} bands (its bands, num_bands, or 3): '
                'expected a value for each; tools/dataset_stats.py measures them'
            )
    if is_of_views(preprocessor):
        model = model_of(cfg)
        for path, owner in (
            ('model', model),
            ('model.encoder', model.get('encoder') or {}),
        ):
            backbone: Any = owner.get('backbone')
            taken = backbone.get('in_channels') if isinstance(backbone, dict) else None
            if isinstance(taken, int) and taken != len(mean):
                yield (
                    f'{path}.backbone.in_channels={taken}, but {where}.mean has '
                    f'{len(mean)} values: expected the same number of bands'
                )


def _padding(cfg: Config) -> Iterator[str]:
    """Mmseg pads batches of a training in one way, and asserts it at the first."""
    where, preprocessor = preprocessor_of(cfg)
    kinds = (
        'SegDataPreProcessor',
        'MultiBandSegPreprocessor',
        'BitemporalPreprocessor',
    )
    given = [preprocessor.get(key) is not None for key in ('size', 'size_divisor')]
    if cfg.get('train_cfg') and type_name(preprocessor) in kinds and sum(given) != 1:
        yield (
            f'{where} ({type_name(preprocessor)}) has '
            f'{"both" if all(given) else "neither"} of size and size_divisor: expected '
            'one of them for a training, such as size=(512, 512), as its crops have'
        )


def _batches(cfg: Config) -> Iterator[str]:
    """Batches that are too small for a head, or do not fill a queue evenly."""
    batch = (cfg.get('train_dataloader') or {}).get('batch_size')
    if not isinstance(batch, int):
        return
    for path, head in heads_of(cfg):
        kind, alone = type_name(head), batch * get_world_size() == 1
        if kind == 'BYOLHead' and batch == 1:
            yield (
                f'train_dataloader.batch_size=1, but the BatchNorm of {path} (BYOLHead)'
                ' needs several images in a batch; set batch_size=2 or more'
            )
        elif kind == 'SpreadHead' and batch == 1:
            yield (
                f'train_dataloader.batch_size=1, but {path} (SpreadHead) keeps the '
                'images of a batch apart; set batch_size=2 or more'
            )
        elif kind == 'MoCoHead' and head.get('queue_size') == 0 and alone:
            yield (
                f'train_dataloader.batch_size=1, but {path} (MoCoHead) has '
                'queue_size=0: the negatives are the other images of the batch; set '
                'batch_size=2 or more, or a queue'
            )
        elif (
            kind == 'PatchSimilarityHead'
            and batch * head.get('num_matches', 20) == 1  # of each process
        ):
            yield (
                f'train_dataloader.batch_size=1 and {path}.num_matches=1: the one cell '
                'has no other to be alike to; set either higher'
            )
    model = model_of(cfg)
    queue = model.get('queue_len', default_of(model, 'queue_len'))
    total = batch * get_world_size()
    if type_name(model) in ('MoCo', 'DenseCL') and queue and queue % total:
        yield (
            f'model.queue_len={queue}, but the batch of all processes is {total} '
            f'(train_dataloader.batch_size={batch}): {type_name(model)} expects a '
            f'multiple; set one, or type=Flexible{type_name(model)}'
        )


def _accumulation(cfg: Config) -> Iterator[str]:
    counts = accumulative_counts(cfg)
    length = (cfg.get('train_cfg') or {}).get('max_iters')
    if isinstance(length, int) and counts > length:
        yield (
            f'optim_wrapper.accumulative_counts={counts}, but train_cfg.max_iters='
            f'{length}: not one whole step is made; set it lower'
        )


def _dropping(cfg: Config) -> Iterator[str]:
    """The loop that repeats iterations exactly counts on whole batches."""
    loader: Any = cfg.get('train_dataloader') or {}
    if type_name(cfg.get('train_cfg') or {}) != 'ResumableTrainLoop':
        return
    if not loader.get('drop_last', False):
        yield (
            'train_dataloader.drop_last is not True, but train_cfg.type='
            'ResumableTrainLoop counts on whole batches; set drop_last=True'
        )
    sampler = type_name(loader.get('sampler') or {})
    if sampler and sampler != 'ResumableSampler':
        yield (
            f'train_dataloader.sampler.type={sampler}, but train_cfg.type='
            "ResumableTrainLoop needs sampler=dict(type='ResumableSampler')"
        )


def _sliding(cfg: Config) -> Iterator[str]:
    """Windows of a test that leave gaps."""
    test: Any = model_of(cfg).get('test_cfg') or {}
    crop, stride = test.get('crop_size'), test.get('stride')
    if test.get('mode') != 'slide' or not crop or not stride:
        return
    sides, steps = ([v, v] if isinstance(v, int) else list(v) for v in (crop, stride))
    if any(step < 1 or step > side for side, step in zip(sides, steps, strict=False)):
        yield (
            f'model.test_cfg.stride={stride}, but model.test_cfg.crop_size={crop}: '
            'expected steps of at least 1 and at most the window, or pixels are left '
            'out'
        )


def _classes(cfg: Config) -> Iterator[str]:
    """Heads of one model that know different classes."""
    model = model_of(cfg)
    counts = {
        path: head.get('num_classes')
        for name in ('head', 'decode_head', 'auxiliary_head')
        for path, head in parts_of(model.get(name), f'model.{name}')
        if isinstance(head.get('num_classes'), int)
    }
    if len(set(counts.values())) > 1:
        found = ', '.join(f'{path}.num_classes={n}' for path, n in counts.items())
        yield f'{found}: expected the number of classes of the data set, the same'
    for path, head in parts_of(model.get('head'), 'model.head'):
        topk, count = head.get('topk'), head.get('num_classes')
        most = max([topk] if isinstance(topk, int) else topk or [0])
        if isinstance(count, int) and most > count:
            yield (
                f'{path}.topk={topk!r}, but {path}.num_classes={count}: expected at '
                'most the number of classes'
            )
    for name in ('decode_head', 'auxiliary_head'):
        for path, head in parts_of(model.get(name), f'model.{name}'):
            yield from _faults_of_class_weights(path, head)


def _faults_of_class_weights(path: str, head: Any) -> Iterator[str]:
    for where, loss in parts_of(head.get('loss_decode'), f'{path}.loss_decode'):
        weights, count = loss.get('class_weight'), head.get('num_classes')
        count = head.get('out_channels') or count
        if not isinstance(weights, list | tuple):
            continue
        if count and len(weights) != count:
            yield (
                f'{where}.class_weight has {len(weights)} values, but '
                f'{path}.num_classes={count}: expected one for each class'
            )
        if loss.get('use_sigmoid') and len(weights) > 1:
            yield (
                f'{where} has use_sigmoid=True and class_weight={weights}: mmseg '
                'weighs classes with softmax only; leave one of them out'
            )


#: In this order; each knows nothing of the others.
RULES = (
    _workers,
    optimizer_type,
    learning_rate,
    betas,
    monitored,
    hooks_in_epochs,
    _schedules,
    _heads_in_time,
    views,
    decoder,
    crops,
    _stages,
    _bands,
    _padding,
    _batches,
    _accumulation,
    _dropping,
    _sliding,
    _classes,
    inputs_of_heads,
)
