# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Numbers that are not finite reach nothing that trains."""

import copy
import math
import re
from pathlib import Path

import mmengine.runner.runner
import pytest
import torch
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel, revert_sync_batchnorm
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from mmengine.structures import InstanceData, PixelData
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from cmid_mm.checkpoints import read_checkpoint
from cmid_mm.engine.batch_files import read_batch
from cmid_mm.engine.hooks import SickTrainingError
from cmid_mm.engine.replay import replay_batch
from cmid_mm.engine.step_guard import StepGuard, guard
from cmid_mm.models.heads.branch_head import BranchHead
from cmid_mm_cli import user_errors
from tests.end_to_end.pretraining import toy_run, write_images
from tests.end_to_end.test_resume import assert_same
from tests.engine import test_step_guard as step_guard_tests
from tests.engine.hooks import test_step_guard_hook as hook_tests
from tests.engine.test_replay import assert_repeated
from tests.faults.rows import fault
from tests.toy import toy_batch, toy_config, toy_model
from tests.toy_baselines import SMALL, build, toy_baseline

PART = 'Numbers that are not finite'
CONFIGS = Path(__file__).parents[2] / 'configs'


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    monkeypatch.setattr(mmengine.runner.runner, 'collect_env', dict)


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp('images'))


# -- Whole runs --------------------------------------------------------------------


def guarded_run(images: Path, work_dir: Path, **changes) -> Config:
    changes = {
        'default_hooks.checkpoint.type': 'VerifiedCheckpointHook',
        'default_hooks.step_guard': dict(type='StepGuardHook', max_in_a_row=3),
        **changes,
    }
    return toy_run(images, work_dir, **changes)


def spoil(batch: dict) -> None:
    """Make one pixel of a batch NaN."""
    batch['inputs'] = batch['inputs'].float()
    batch['inputs'][1, 0, 2, 7, 9] = math.nan


def run(cfg: Config, sick: dict, stop_at: int | None = None) -> Runner:
    """Train; ``sick`` does something to the batch of an iteration, counted from 0."""
    cfg.experiment_name = f'{Path(cfg.work_dir).name}-{stop_at}-{cfg.get("resume")}'
    runner = Runner.from_cfg(cfg)
    run_iter = runner.train_loop.run_iter

    def run_sick_iter(idx, batch):
        if runner.iter == stop_at:
            raise KeyboardInterrupt
        if runner.iter in sick:
            sick[runner.iter](batch)
        run_iter(idx, batch)

    runner.train_loop.run_iter = run_sick_iter
    try:
        runner.train()
    except KeyboardInterrupt:
        pass
    return runner


@fault(
    PART,
    'one NaN pixel in one batch of a pre-training',
    'the iteration is skipped and counted, all states stay finite; its file repeats it '
    'and names the pixel; a resumed run equals the straight one bit for bit',
)
def test_nan_pixel(images, tmp_path):
    sick = {5: spoil}
    runner = run(guarded_run(images, tmp_path / 'whole'), sick)
    last = tmp_path / 'whole' / 'iter_14.pth'
    state = read_checkpoint(last)['state_dict']
    assert all(value.isfinite().all() for value in state.values())
    assert runner.message_hub.get_info('skipped_steps') == 1

    file = tmp_path / 'whole' / 'sick_batches' / 'iter_6_rank_0.pth'
    replay = replay_batch(file)
    assert replay.first['input'] == ('batch.inputs[1, 0, 2, 7, 9], 1 of 49152 numbers')
    assert replay.first['feature'].startswith('student.backbone.conv1[')
    told = replay.content['losses']
    assert math.isnan(told['loss']) and math.isnan(replay.losses['loss'])
    assert len(replay.content['file_names']) == 2
    assert all(Path(name).is_file() for name in replay.content['file_names'])

    run(guarded_run(images, tmp_path / 'killed'), sick, stop_at=9)
    resume = dict(resume=True, load_from=str(tmp_path / 'killed' / 'iter_8.pth'))
    run(guarded_run(images, tmp_path / 'killed', **resume), sick)
    assert_same(tmp_path / 'killed' / 'iter_14.pth', last)


@MODELS.register_module()
class InfiniteGradient(BranchHead):
    """A loss of 0 whose gradient is infinite."""

    def __init__(self) -> None:
        super().__init__()
        self.root = nn.Parameter(torch.zeros(1))

    def loss(self, pair):
        return {'loss_root': self.root.sqrt().sum()}


@fault(
    PART,
    'a batch whose loss is finite and whose gradient is not',
    'skipped likewise; repeated with the same losses, bit for bit, and with the '
    'parameter named',
)
def test_infinite_gradient(images, tmp_path):
    cfg = guarded_run(images, tmp_path)
    cfg.model.heads.sick = dict(type='InfiniteGradient')
    with pytest.raises(SickTrainingError):
        run(cfg, {})
    content = read_batch(tmp_path / 'sick_batches' / 'iter_1_rank_0.pth')
    assert content['sick'] == ['gradients']
    replay = replay_batch(tmp_path / 'sick_batches' / 'iter_1_rank_0.pth')
    assert replay.losses == content['losses']
    assert replay.first == {'gradient': 'heads.sick.root[0], 1 of 1 numbers'}
    assert replay.parameters == ['heads.sick.root']


@fault(
    PART,
    'NaN pixels in every batch from some iteration on',
    'the run stops with an error at the iteration that the setting says, with a '
    'checkpoint of the state before; with good batches it goes on from there',
)
def test_in_a_row(images, tmp_path):
    cfg = guarded_run(images, tmp_path)
    tool = user_errors(lambda: run(cfg, dict.fromkeys(range(6, 15), spoil)))
    with pytest.raises(SystemExit) as stop:
        tool()
    # Python prints a text, and ends with status 1.
    assert re.match(r'error: 3 iterations in a row.*iter_9\.pth', str(stop.value.code))
    before, stopped = (
        read_checkpoint(tmp_path / f'iter_{number}.pth') for number in (6, 9)
    )
    for name, value in before['state_dict'].items():
        assert torch.equal(stopped['state_dict'][name], value), name
    resume = dict(resume=True, load_from=str(tmp_path / 'iter_9.pth'))
    runner = run(guarded_run(images, tmp_path, **resume), {})
    assert runner.iter == 15
    assert runner.message_hub.get_info('skipped_steps') == 3


@fault(
    PART,
    'NaN pixels in every batch of a run shorter than the setting',
    'nothing was trained: the run ends with status 1 and saves nothing as if it were',
)
def test_in_all(images, tmp_path):
    cfg = guarded_run(images, tmp_path)
    cfg.default_hooks.step_guard.max_in_a_row = 100
    cfg.default_hooks.checkpoint.interval = 15
    tool = user_errors(lambda: run(cfg, dict.fromkeys(range(15), spoil)))
    with pytest.raises(SystemExit) as stop:
        tool()
    assert re.match('error: All 15 .* nothing was trained', str(stop.value.code))
    assert not list(tmp_path.glob('*.pth'))


# -- Every method and task ----------------------------------------------------------


def guarded(model: nn.Module, **options) -> OptimWrapper:
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    wrapper = OptimWrapper(optimizer=optimizer, **options)
    guard(wrapper, model)
    return wrapper


def assert_skipped(model: nn.Module, batch: dict, sick: dict) -> None:
    """A sick batch between two good ones leaves no trace."""
    model.train()
    wrapper = guarded(model)
    assert isinstance(wrapper, StepGuard)
    model.train_step(copy.deepcopy(batch), wrapper)
    assert wrapper.sick == ()
    before = copy.deepcopy([model.state_dict(), wrapper.state_dict()])
    model.train_step(sick, wrapper)
    assert wrapper.sick
    # SwAV normalises its prototypes in each forward pass.
    for own, kept in zip(
        [model.state_dict(), wrapper.state_dict()], before, strict=True
    ):
        torch.testing.assert_close(own, kept, rtol=0, atol=1e-5)
    model.train_step(copy.deepcopy(batch), wrapper)
    assert wrapper.sick == ()
    moved = sum(
        not torch.equal(value, before[0][name])
        for name, value in model.state_dict().items()
    )
    assert moved > 0.5 * len(before[0])


@fault(
    PART,
    'a NaN pixel, for CMID and each baseline',
    'neither weights, statistics, queues and centres nor the optimiser see it',
)
@pytest.mark.parametrize('method', ['cmid', *SMALL])
def test_methods(method):
    if method == 'cmid':
        model = toy_model()
    else:
        model = build(toy_baseline(method))
    sick = toy_batch()
    spoil(sick)
    assert_skipped(model, toy_batch(), sick)


def classification() -> tuple[Config, dict]:
    from mmpretrain.structures import DataSample

    cfg = Config.fromfile(CONFIGS / 'classification' / 'resnet18_demo.py')
    samples = [DataSample().set_gt_label(index) for index in range(2)]
    return cfg, dict(inputs=torch.rand(2, 3, 64, 64) * 255, data_samples=samples)


def _pixels(bands: int) -> dict:
    from mmseg.structures import SegDataSample

    samples = []
    for _ in range(2):
        sample = SegDataSample(metainfo=dict(img_shape=(64, 64), ori_shape=(64, 64)))
        labels = torch.randint(0, 2, (1, 64, 64))
        sample.gt_sem_seg = PixelData(data=labels)
        samples.append(sample)
    inputs = [torch.rand(bands, 64, 64) * 255 for _ in range(2)]
    return dict(inputs=inputs, data_samples=samples)


def segmentation() -> tuple[Config, dict]:
    return Config.fromfile(CONFIGS / 'segmentation' / 'upernet_r18_demo.py'), _pixels(3)


def change_detection() -> tuple[Config, dict]:
    return Config.fromfile(CONFIGS / 'change_detection' / 'bit_r18_demo.py'), _pixels(6)


def detection(box=(30.0, 30.0, 20.0, 10.0, 0.3)) -> tuple[Config, dict]:
    pytest.importorskip('mmrotate')
    from mmdet.structures import DetDataSample
    from mmrotate.structures.bbox import RotatedBoxes

    samples = []
    for _ in range(2):
        meta = dict(
            img_shape=(64, 64),
            ori_shape=(64, 64),
            pad_shape=(64, 64),
            batch_input_shape=(64, 64),
            scale_factor=(1.0, 1.0),
        )
        sample = DetDataSample(metainfo=meta)
        sample.gt_instances = InstanceData(
            bboxes=RotatedBoxes(torch.tensor([box])), labels=torch.tensor([0])
        )
        sample.ignored_instances = InstanceData(
            bboxes=RotatedBoxes(torch.zeros(0, 5)), labels=torch.zeros(0).long()
        )
        samples.append(sample)
    inputs = [torch.rand(3, 64, 64) * 255 for _ in range(2)]
    cfg = Config.fromfile(CONFIGS / 'detection' / 'oriented-rcnn_r18_demo.py')
    return cfg, dict(inputs=inputs, data_samples=samples)


def task_model(cfg: Config) -> nn.Module:
    init_default_scope(cfg.default_scope)
    if cfg.get('data_preprocessor'):
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    torch.manual_seed(0)
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    model.init_weights()
    return model


@fault(
    PART,
    'a NaN pixel, for each task',
    'neither weights and statistics nor the optimiser see it',
)
@pytest.mark.parametrize(
    'task', [classification, segmentation, change_detection, detection]
)
def test_tasks(task):
    cfg, batch = task()
    sick = copy.deepcopy(batch)
    image: Tensor = sick['inputs'][1]
    image[0, 20, 20] = math.nan
    assert_skipped(task_model(cfg), batch, sick)


@fault(
    PART,
    'an iteration that is repeated, of CMID, each baseline and each task',
    'it comes to the losses that it had in the run, bit for bit',
)
@pytest.mark.parametrize('name', ['cmid', *SMALL])
def test_methods_are_repeated(name, tmp_path):
    if name == 'cmid':
        config = toy_config()
        preprocessor = config.pop('data_preprocessor')
        cfg = Config(dict(model=config, data_preprocessor=preprocessor))
        cfg.default_scope = 'mmpretrain'
        model = toy_model()
    else:
        cfg = toy_baseline(name)
        model = build(cfg)

    def begin():
        # What hooks do.
        if name == 'cmid':
            model.teacher_is_updated = True
        elif 'densecl' in name:
            model.loss_lambda = 0.0

    assert_repeated(cfg, model, toy_batch(), tmp_path, begin)


@fault(
    PART,
    'an iteration that is repeated, of CMID, each baseline and each task',
    'it comes to the losses that it had in the run, bit for bit',
)
@pytest.mark.parametrize(
    'task', [classification, segmentation, change_detection, detection]
)
def test_tasks_are_repeated(task, tmp_path):
    cfg, batch = task()
    whole = copy.deepcopy(cfg)
    assert_repeated(whole, task_model(cfg), batch, tmp_path)


@fault(
    PART,
    'boxes without area that a reader let through',
    'the iteration is skipped; our readers leave such boxes out and say how many',
)
def test_flat_boxes():
    cfg, batch = detection()
    _, sick = detection(box=(30.0, 30.0, 20.0, 0.0, 0.3))
    assert_skipped(task_model(cfg), batch, sick)


# -- Mixed precision, metrics --------------------------------------------------------


@fault(
    PART,
    'gradients that overflow in mixed precision',
    'no fault: the scaler lowers its scale until they do not, and training goes on',
)
def test_overflow():
    model = toy_model()
    trained = [p for p in model.parameters() if p.requires_grad]
    wrapper = step_guard_tests.ScaledOptimWrapper(
        optimizer=torch.optim.SGD(trained, lr=1e-3)
    )
    guard(wrapper, model)
    wrapper.loss_scaler = torch.amp.GradScaler('cpu', init_scale=2.0**127)
    skipped = 0
    for _ in range(8):
        before = copy.deepcopy(model.student.state_dict())
        model.train_step(toy_batch(), wrapper)
        assert wrapper.sick == ()
        skipped += torch.equal(
            model.student.backbone.conv1.weight, before['backbone.conv1.weight']
        )
    assert 2 <= skipped <= 7
    assert all(value.isfinite().all() for value in model.state_dict().values())


@fault(
    PART,
    'a validation metric that is NaN or infinite',
    'counts as the worst: never the best checkpoint, no improvement for early stopping',
)
@pytest.mark.parametrize(
    ('rule', 'scores', 'best'),
    [
        ('greater', [0.5, math.nan, math.inf], 'epoch_1'),
        ('less', [math.nan, 0.5, -math.inf], 'epoch_2'),
    ],
)
def test_metric(tmp_path, rule, scores, best):
    hook_tests.test_metric_that_is_not_finite_is_never_the_best(
        tmp_path, rule, scores, best
    )


# -- Several processes ---------------------------------------------------------------


def worker(rank: int, folder: str) -> None:
    """Train three steps in one of two processes; the second image of one is sick."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=2
    )
    model = toy_model()
    wrapped = MMDistributedDataParallel(model, broadcast_buffers=False)
    wrapper = guarded(model)
    assert isinstance(wrapper, StepGuard)
    found = []
    for step in range(3):
        batch = {key: value[2 * rank :][:2] for key, value in toy_batch().items()}
        if (step, rank) == (1, 1):
            spoil(batch)
        before = copy.deepcopy(model.state_dict())
        wrapped.train_step(batch, wrapper)
        unchanged = all(
            torch.equal(value, before[name])
            for name, value in model.state_dict().items()
        )
        found.append((bool(wrapper.sick), wrapper.is_own, unchanged))
    torch.save(dict(found=found, state=model.state_dict()), Path(folder, f'{rank}.pth'))
    torch.distributed.destroy_process_group()


@fault(
    PART,
    'a NaN pixel in one of two processes',
    'both skip the iteration, and know in which of them it was',
)
def test_two_processes(tmp_path):
    spawn(worker, (str(tmp_path),), nprocs=2)
    ranks = [torch.load(tmp_path / f'{rank}.pth', weights_only=True) for rank in (0, 1)]
    good = (False, False, False)
    assert ranks[1]['found'] == [good, (True, True, True), good]
    assert [skipped for skipped, *_ in ranks[0]['found']] == [False, True, False]
    assert ranks[0]['found'][1][2]
    for name, value in ranks[0]['state'].items():
        assert value.isfinite().all(), name
        if 'queue' in name or 'center' in name or name.endswith('weight'):
            assert torch.equal(value, ranks[1]['state'][name]), name
