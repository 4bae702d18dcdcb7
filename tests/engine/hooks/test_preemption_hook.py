# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import multiprocessing
import signal
import socket
import sys
import time
from multiprocessing import resource_sharer

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.registry import HOOKS
from torch.utils.data import Dataset

from cmid_mm_cli.stopping import STATUS_VARIABLE, stop_signals
from tests.end_to_end.pretraining import toy_run, train, write_images
from tests.end_to_end.test_resume import assert_same
from tests.engine.hooks import short_runs


@pytest.fixture(autouse=True)
def _signals():
    yield
    stop_signals.restore()


@HOOKS.register_module()
class SignalAt(Hook):
    """Sends signals to this process at a point of the run, once."""

    def __init__(self, point, iteration, numbers):
        self.iteration, self.numbers = iteration, numbers
        setattr(self, point, self.send)

    def send(self, runner, *args, **kwargs):
        if runner.iter == self.iteration:
            numbers, self.numbers = self.numbers, ()
            for number in numbers:
                signal.raise_signal(number)


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp('images'))


def preemptible(images, work_dir, **changes):
    """Three epochs of five iterations, a regular checkpoint after each epoch."""
    cfg = toy_run(images, work_dir, **changes)
    cfg.default_hooks.checkpoint.update(
        type='VerifiedCheckpointHook', by_epoch=True, interval=1, max_keep_ckpts=2
    )
    cfg.default_hooks.preemption = dict(type='PreemptionHook')
    return cfg


@pytest.fixture(scope='module')
def whole(images, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('whole')
    train(preemptible(images, work_dir))
    return work_dir / 'epoch_3.pth'


def signal_at(cfg, point, iteration, *numbers):
    cfg.custom_hooks.append(
        dict(
            type='SignalAt',
            point=point,
            iteration=iteration,
            numbers=[int(number) for number in numbers],
        )
    )


def train_until(cfg, point, iteration, *numbers):
    """Train; return the status with which the process would have ended."""
    signal_at(cfg, point, iteration, *numbers)
    with pytest.raises(SystemExit) as stop:
        train(cfg)
    return stop.value.code


# In an iteration, in the last of an epoch, which has an end to be done after resuming,
# and while a batch is waited for.
@pytest.mark.parametrize(
    ('point', 'iteration', 'saved'),
    [
        ('after_train_iter', 6, 7),
        ('after_train_iter', 4, 5),
        ('before_train_epoch', 10, 10),
    ],
)
def test_a_stopped_run_goes_on_bit_identically(
    point, iteration, saved, images, whole, tmp_path
):
    cfg = preemptible(images, tmp_path)
    assert train_until(cfg, point, iteration, signal.SIGTERM) == 75
    file = tmp_path / f'iter_{saved}.pth'
    assert (tmp_path / 'last_checkpoint').read_text() == str(file)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    train(preemptible(images, tmp_path, resume=True, load_from=str(file)))
    assert_same(tmp_path / 'epoch_3.pth', whole)
    assert len(list(tmp_path.glob('*.pth'))) == 2  # it counted among them


def test_gathered_gradients_are_not_lost(images, tmp_path):
    """The step is finished first."""
    cfg = preemptible(images, tmp_path, **{'optim_wrapper.accumulative_counts': 4})
    assert train_until(cfg, 'before_train_epoch', 5, signal.SIGUSR1) == 75
    assert [path.name for path in tmp_path.glob('iter_*')] == ['iter_8.pth']


def test_ctrl_c_once_saves_and_twice_stops_at_once(images, tmp_path):
    cfg = preemptible(images, tmp_path)
    assert train_until(cfg, 'after_train_iter', 2, signal.SIGINT) == 130
    (tmp_path / 'iter_3.pth').unlink()
    cfg = preemptible(images, tmp_path)
    signal_at(cfg, 'after_train_iter', 2, signal.SIGINT, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(cfg)
    assert not list(tmp_path.glob('iter_*'))


def _hand_over(address, errors):
    """Offer an open file as a data loader's worker does its tensors."""
    sys.stderr = open(errors, 'w', buffering=1)
    address.send(resource_sharer.DupFd(0)._id[0])
    address.recv()
    for error in (ConnectionResetError('left'), ValueError('of a thread')):
        sys.excepthook(type(error), error, None)


@pytest.mark.parametrize('reads', [False, True], ids=['reset', 'end of file'])
def test_workers_do_not_tell_that_the_run_left(reads, tmp_path):
    stop_signals.install()
    here, there = multiprocessing.Pipe()
    worker = multiprocessing.get_context('fork').Process(
        target=_hand_over, args=(there, tmp_path / 'errors.txt')
    )
    worker.start()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(here.recv())
        if reads:
            connection.recv(1000)
        else:
            time.sleep(0.2)  # what it is sent is left unread
    time.sleep(0.2)
    here.send('')
    worker.join()
    assert (tmp_path / 'errors.txt').read_text() == 'ValueError: of a thread\n'


def test_status_goes_to_a_file_for_launchers(images, tmp_path, monkeypatch):
    monkeypatch.setenv(STATUS_VARIABLE, str(tmp_path / 'status'))
    cfg = preemptible(images, tmp_path)
    assert train_until(cfg, 'before_train_iter', 1, signal.SIGTERM) == 0
    assert (tmp_path / 'status').read_text() == '75\n'


class Mean(BaseModel):
    """Adds up the images that it sees."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen = []

    def forward(self, inputs, mode='tensor'):
        if mode == 'loss':
            self.seen.append(inputs.sum(dim=(1, 2, 3)))
            return dict(loss=self.weight.sum())
        return [inputs.mean()]


@HOOKS.register_module()
class StopInValidation(Hook):
    """Asks for a stop in the second batch of the first validation, if it is on."""

    on = True
    begun = 0

    def before_val(self, runner):
        StopInValidation.begun += 1

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        if self.on and batch_idx == 1:
            signal.raise_signal(signal.SIGTERM)


class Count(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results += data_samples

    def compute_metrics(self, results):
        return dict(count=len(results))


def validated(model, work_dir, by_epoch=True, **kwargs):
    loader = dict(
        dataset=short_runs.NoisyImages(),
        batch_size=2,
        sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate'),
    )
    return short_runs.train(
        model,
        work_dir,
        dict(type='PreemptionHook'),
        dict(type='StopInValidation'),
        max_epochs=2 if by_epoch else 6,
        by_epoch=by_epoch,
        val_dataloader=loader,
        val_cfg=dict(),
        val_evaluator=dict(type=Count),
        **kwargs,
    )


@pytest.mark.parametrize('by_epoch', [True, False])
def test_a_validation_that_was_cut_short_is_done_again(by_epoch, tmp_path, monkeypatch):
    monkeypatch.setattr(StopInValidation, 'begun', 0)
    changes = {} if by_epoch else dict(val_interval=3)
    with pytest.raises(SystemExit):
        validated(Mean(), tmp_path, by_epoch, **changes)
    monkeypatch.setattr(StopInValidation, 'on', False)
    model = Mean()
    file = tmp_path / 'iter_3.pth'
    runner = validated(
        model, tmp_path, by_epoch, resume=True, load_from=str(file), **changes
    )
    assert StopInValidation.begun == 3  # cut short, again, after the second epoch
    assert len(model.seen) == 3 and runner.iter == 6
    assert runner.message_hub.get_scalar('val/count').current() == 3  # batches


class Numbered(Dataset):
    """Six images, each filled with its number."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return dict(inputs=torch.full((1, 1, 1), float(index)))


def test_the_loop_of_mmengine_sees_the_images_that_remain(tmp_path, monkeypatch):
    """In the order of a run that was not stopped, whose schedule it keeps."""
    monkeypatch.setattr(short_runs, 'NoisyImages', Numbered)
    whole, stopped, resumed = Mean(), Mean(), Mean()
    preemption = dict(type='PreemptionHook')
    short_runs.train(whole, tmp_path / 'whole', preemption, max_epochs=3)
    signal_hook = dict(
        type='SignalAt', point='after_train_iter', iteration=3, numbers=[15]
    )
    with pytest.raises(SystemExit):
        short_runs.train(stopped, tmp_path, preemption, signal_hook, max_epochs=3)
    runner = short_runs.train(resumed, tmp_path, preemption, max_epochs=3, resume=True)
    assert len(stopped.seen) == 4 and runner.iter == 9
    assert torch.equal(torch.cat(stopped.seen + resumed.seen), torch.cat(whole.seen))


@pytest.mark.parametrize('batch_size', [1, 3])
@pytest.mark.parametrize('iteration', [3, 5])
def test_the_loop_of_mmengine_goes_on_with_another_batch(
    batch_size, iteration, tmp_path, monkeypatch
):
    """Within an epoch and at its end; no image is seen twice or left out."""
    monkeypatch.setattr(short_runs, 'NoisyImages', Numbered)
    whole, stopped, resumed = Mean(), Mean(), Mean()
    schedule = dict(
        param_scheduler=dict(type='LinearLR', end=3, convert_to_iter_based=True)
    )
    options = dict(max_epochs=3, cfg=schedule, **schedule)
    preemption = dict(type='PreemptionHook')
    other = short_runs.train(
        whole, tmp_path / 'whole', preemption, batch_size=batch_size, **options
    )
    signal_hook = dict(
        type='SignalAt', point='after_train_iter', iteration=iteration, numbers=[15]
    )
    with pytest.raises(SystemExit):
        short_runs.train(stopped, tmp_path, preemption, signal_hook, **options)
    resumed_run = short_runs.train(
        resumed, tmp_path, preemption, batch_size=batch_size, resume=True, **options
    )
    seen = torch.cat(stopped.seen + resumed.seen).tolist()
    expected = torch.cat(whole.seen).tolist()
    if (batch_size, iteration) == (3, 3):  # two images are no batch: seen again
        expected[8:8] = expected[6:8]
    assert seen == expected
    assert resumed_run.iter == other.iter == 18 // batch_size
    rates = [
        run.message_hub.get_scalar('train/lr').data[0][-2:]
        for run in (resumed_run, other)
    ]
    assert rates[0] == pytest.approx(rates[1])


def test_a_run_by_iterations_tells_of_another_batch(tmp_path, monkeypatch):
    preemption = dict(type='PreemptionHook')
    signal_hook = dict(
        type='SignalAt', point='after_train_iter', iteration=2, numbers=[15]
    )
    options = dict(max_epochs=6, by_epoch=False)
    with pytest.raises(SystemExit):
        short_runs.train(Mean(), tmp_path, preemption, signal_hook, **options)
    told = []
    monkeypatch.setattr(MMLogger, 'warning', lambda self, text: told.append(text))
    resume = dict(resume=True, load_from=str(tmp_path / 'iter_3.pth'))
    for batch_size in (2, 1):
        short_runs.train(
            Mean(), tmp_path, preemption, batch_size=batch_size, **resume, **options
        )
        said = [text for text in told if text.startswith('Iterations have')]
        assert len(said) == (batch_size == 1)
    assert 'from iteration 3 and sees 0.5 times the images' in said[0]
    assert 'so that all processes together have 2' in said[0]
