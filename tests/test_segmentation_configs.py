# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import copy
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS, init_default_scope
from mmengine.structures import PixelData

from tests.datasets.windowed.ground import write_scenes
from tests.toy import SMALL_VIT

mmseg = pytest.importorskip('mmseg')
from mmseg.registry import DATASETS, METRICS, MODELS  # noqa: E402

CONFIGS = Path(__file__).parents[1] / 'configs' / 'segmentation'
NAMES = sorted(path.name for path in CONFIGS.glob('*.py'))
IGNORED = 255


@pytest.fixture(autouse=True)
def _scope(_seeded):
    init_default_scope('mmseg')


def load(name: str) -> Config:
    return Config.fromfile(CONFIGS / name)


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels)


def make_tiles(root: Path, cfg: Config, size: int = 64, count: int = 2) -> None:
    """Random tiles where the config's data sets look for them."""
    rng = np.random.default_rng(0)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        dataset = loader.dataset
        dataset.data_root = str(root)
        if dataset.type == 'WindowedSegmentation':
            write_scenes(root, dataset, size, count)
            continue
        suffix = dataset.get('img_suffix', '.png')
        names = [f'{index}' for index in range(count)]
        if dataset.get('ann_file'):
            (root / dataset.ann_file).write_text('\n'.join(names))
        for name in names:
            image = rng.integers(0, 256, (size, size, 3), np.uint8)
            write(root / dataset.data_prefix.img_path / (name + suffix), image)
            label = rng.integers(0, 5, (size, size), np.uint8)
            write(root / dataset.data_prefix.seg_map_path / f'{name}.png', label)


def shrink(cfg: Config) -> None:
    """A network of few layers and channels, of the same classes and settings."""
    model = cfg.model
    if model.backbone.type == 'ResNet':
        model.backbone.update(depth=18, base_channels=8, stem_channels=8)
        channels = [8, 16, 32, 64]
    elif 'RVSA' in model.backbone.type:
        model.backbone.update(
            embed_dims=24, depth=4, img_size=64, out_indices=(0, 1, 2, 3)
        )
        channels = [24] * 4
    elif 'VisionTransformer' in model.backbone.type:
        model.backbone.update(arch=SMALL_VIT, img_size=64, out_indices=(0, 1, 2, 3))
        model.neck.embed_dim = 48
        channels = [48] * 4
    else:
        model.backbone.update(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1] * 4)
        channels = [8, 16, 32, 64]
    model.decode_head.update(in_channels=channels, channels=8)
    model.auxiliary_head.update(in_channels=channels[2], channels=8)


def build_model(cfg: Config) -> torch.nn.Module:
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    model.init_weights()
    return model


def batch_of(dataset, count: int = 2) -> dict:
    samples = [dataset[index] for index in range(count)]
    return {key: [sample[key] for sample in samples] for key in samples[0]}


# -- Every config ----------------------------------------------------------------


@pytest.mark.parametrize('name', NAMES)
def test_config_trains_and_predicts(name, tmp_path):
    cfg = load(name)
    make_tiles(tmp_path, cfg)
    shrink(cfg)
    model = build_model(cfg).train()
    classes = model.decode_head.num_classes
    train = DATASETS.build(cfg.train_dataloader.dataset)
    val = DATASETS.build(cfg.val_dataloader.dataset)
    assert len(train.metainfo['classes']) == len(train.metainfo['palette']) == classes
    assert val.metainfo['classes'] == train.metainfo['classes']
    assert model.auxiliary_head.num_classes == classes

    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    batch = batch_of(train)
    before = copy.deepcopy(model.state_dict())
    losses = model.train_step(batch, wrapper)
    assert {'decode.loss_ce', 'aux.loss_ce'} < losses.keys()
    assert torch.isfinite(losses['loss'])
    moved = {
        name
        for name, parameter in model.named_parameters()
        if not torch.equal(before[name], parameter)
    }
    stem = next(iter(dict(model.backbone.named_parameters())))
    assert f'backbone.{stem}' in moved
    assert {'decode_head.conv_seg.weight', 'auxiliary_head.conv_seg.weight'} < moved

    predictions = model.eval().val_step(batch_of(val, 1))
    assert predictions[0].seg_logits.data.shape == (classes, 64, 64)
    metric = METRICS.build(cfg.val_evaluator)
    metric.dataset_meta = val.metainfo
    metric.process({}, [sample.to_dict() for sample in predictions])
    assert {'mIoU', 'mFscore', 'aAcc'} < metric.evaluate(1).keys()


@pytest.mark.parametrize('name', NAMES)
def test_config_has_the_plain_stem_and_statistics_of_the_pretraining(name):
    cfg = load(name)
    assert cfg.model.backbone.type in (
        *('ResNet', 'SwinTransformer', 'RVSAViT', 'RVSAViTAE'),
        'mmpretrain.VisionTransformer',
    )
    assert cfg.model.get('pretrained') is None
    assert 'init_cfg' not in cfg.model.backbone
    assert cfg.model.data_preprocessor.mean == [86.18235, 91.9275, 85.374]
    assert cfg.model.data_preprocessor.std == [34.6545, 34.476, 35.8785]
    # The loader gives RGB, which is not to be turned around again.
    assert not cfg.model.data_preprocessor.get('bgr_to_rgb')
    assert cfg.test_dataloader.dataset.pipeline[0].type == 'LoadImagery'
    assert cfg.model.data_preprocessor.seg_pad_val == IGNORED
    assert cfg.default_hooks.checkpoint.save_best == 'mIoU'
    assert cfg.default_hooks.checkpoint.type == 'VerifiedCheckpointHook'


def steps(pipeline) -> dict:
    return {step['type']: step for step in pipeline}


@pytest.mark.parametrize('data', ['potsdam', 'vaihingen', 'loveda'])
def test_settings_of_the_paper(data):
    root = dict(
        potsdam='data/potsdam', vaihingen='data/vaihingen', loveda='data/loveDA'
    )[data]
    for backbone in ('r50', 'swin-b'):
        cfg = load(f'upernet_{backbone}_{data}.py')
        assert cfg.prepared_by == data
        for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
            assert loader.dataset.data_root == root
        assert cfg.train_dataloader.batch_size == 8
        assert cfg.train_cfg.max_epochs == 50
        pipeline = steps(cfg.train_dataloader.dataset.pipeline)
        assert pipeline['RandomResize']['ratio_range'] == (0.5, 2.0)
        assert pipeline['RandomCrop']['crop_size'] == (512, 512)
        assert pipeline['RandomCrop']['cat_max_ratio'] == 0.75
        assert {'RandomFlip', 'PhotoMetricDistortion'} < pipeline.keys()
        assert cfg.model.data_preprocessor.size == (512, 512)
        assert cfg.model.auxiliary_head.type == 'FCNHead'
        assert cfg.model.auxiliary_head.in_index == 2
        assert cfg.model.auxiliary_head.loss_decode.loss_weight == 0.4
        wrapper = cfg.optim_wrapper
        assert wrapper.optimizer.weight_decay == 0.02
        assert wrapper.optimizer.betas == (0.98, 0.92, 0.99)
        if backbone == 'r50':
            assert wrapper.optimizer.lr == 2e-3
            assert wrapper.clip_grad == dict(max_norm=5.0)
        else:
            assert wrapper.optimizer.lr == 3e-4
            assert wrapper.clip_grad is None
            assert cfg.model.backbone.drop_path_rate == 0.3
        decode, classes = cfg.model.decode_head, 7 if data == 'loveda' else 5
        assert decode.type == 'UPerHead' and decode.num_classes == classes


def test_recipes_of_mmseg():
    for data in ('potsdam', 'vaihingen'):
        sgd = load(f'upernet_r50_sgd_{data}.py').optim_wrapper
        assert sgd.optimizer == dict(
            type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4
        )
        adamw = load(f'upernet_swin-b_adamw_{data}.py').optim_wrapper
        assert (adamw.optimizer.lr, adamw.optimizer.weight_decay) == (6e-5, 0.01)
        assert 'clip_grad' not in sgd and 'clip_grad' not in adamw


@pytest.mark.parametrize('backbone', ['r50', 'swin-b'])
def test_no_decay_on_norms_biases_and_position_tables(backbone):
    cfg = load(f'upernet_{backbone}_potsdam.py')
    shrink(cfg)
    model = build_model(cfg)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    decay = {
        id(parameter): group['weight_decay']
        for group in wrapper.optimizer.param_groups
        for parameter in group['params']
    }
    undecayed = set()
    for name, parameter in model.named_parameters():
        table = 'relative_position_bias_table' in name
        assert decay[id(parameter)] == (0.0 if parameter.ndim < 2 or table else 0.02)
        undecayed |= {'table'} if table else set()
    assert undecayed == ({'table'} if backbone == 'swin-b' else set())


@pytest.mark.parametrize('recipe', ['r50', 'r50_sgd', 'swin-b_adamw'])
def test_learning_rate_over_fifty_epochs(recipe):
    cfg = load(f'upernet_{recipe}_vaihingen.py')
    epoch, lr = 43, cfg.optim_wrapper.optimizer.lr
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    schedulers = []
    for item in cfg.param_scheduler:
        item = dict(item)
        kind = PARAM_SCHEDULERS.get(item.pop('type'))
        if item.pop('convert_to_iter_based', False):
            item['epoch_length'] = epoch
            kind = kind.build_iter_from_epoch
        schedulers.append(kind(optimizer, **item))
    rates = []
    for _ in range(50 * epoch):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    half = rates[25 * epoch]
    assert max(rates) <= lr
    if recipe == 'r50':
        assert rates[0] == pytest.approx(2e-5)
        assert rates[100] == pytest.approx(lr, rel=0.01)
        assert half == pytest.approx(lr / 2, rel=0.01)
        assert rates[-1] == pytest.approx(1e-6, abs=1e-7)
    elif recipe == 'r50_sgd':
        assert rates[0] == lr
        assert half == pytest.approx((lr - 1e-4) * 0.5**0.9 + 1e-4, rel=0.01)
        assert rates[-1] == pytest.approx(1e-4, abs=2e-5)
    else:
        assert rates[0] == pytest.approx(6e-11)
        assert half == pytest.approx(lr / 2, rel=0.01)
        assert rates[-1] < 1e-7


# -- Labels ----------------------------------------------------------------------

#: Every value of an ISPRS label file, and 255, and what shall become of it.
FATE = {0: IGNORED, 1: 0, 2: 1, 3: 2, 4: 3, 5: 4, 6: IGNORED, 255: IGNORED}


def isprs_tile(root: Path, cfg: Config) -> np.ndarray:
    """A tile with a patch of each value in both parts; returns its labels."""
    values = np.repeat(np.array([*FATE], np.uint8), 8)
    label = np.tile(values, (64, 1))
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        dataset = loader.dataset
        dataset.data_root = str(root)
        image = np.stack([label] * 3, axis=2)  # the image shows its labels
        write(root / dataset.data_prefix.img_path / 'tile.png', image)
        write(root / dataset.data_prefix.seg_map_path / 'tile.png', label)
    return label


@pytest.mark.parametrize('data', ['potsdam', 'vaihingen'])
def test_fate_of_each_isprs_label_in_training(data, tmp_path):
    cfg = load(f'upernet_r50_{data}.py')
    isprs_tile(tmp_path, cfg)
    # Without changes of colour and scale, the image still says what the label was.
    cfg.train_dataloader.dataset.pipeline = [
        step
        for step in cfg.train_dataloader.dataset.pipeline
        if step['type'] not in ('PhotoMetricDistortion', 'RandomResize')
    ]
    sample = DATASETS.build(cfg.train_dataloader.dataset)[0]
    raw = sample['inputs'][0].numpy()
    label = sample['data_samples'].gt_sem_seg.data[0].numpy()
    assert set(np.unique(raw)) == set(FATE)
    for value, expected in FATE.items():
        assert set(np.unique(label[raw == value])) == {expected}, value

    # With them, and the padding of images smaller than the crop: no other label.
    cfg = load(f'upernet_r50_{data}.py')
    isprs_tile(tmp_path, cfg)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    batch = batch_of(dataset, 1)
    model = MODELS.build(cfg.model.data_preprocessor)
    labels = model(batch, training=True)['data_samples'][0].gt_sem_seg.data
    assert labels.shape == (1, 512, 512)
    assert set(labels.unique().tolist()) <= {0, 1, 2, 3, 4, IGNORED}


def test_ignored_labels_have_no_part_in_the_losses(tmp_path):
    cfg = load('upernet_r50_potsdam.py')
    shrink(cfg)
    model = build_model(cfg)
    logits = torch.randn(1, 5, 4, 4)
    label = torch.full((1, 1, 4, 4), IGNORED)
    label[..., 0] = 2
    other = logits.clone()
    other[..., 1:] += torch.randn(1, 5, 4, 3)  # where the label is ignored
    for head in (model.decode_head, model.auxiliary_head):
        losses = [
            head.loss_by_feat(x, [sample_of(label[0])])['loss_ce']
            for x in (logits, other)
        ]
        assert losses[0] == losses[1] > 0


def sample_of(label: torch.Tensor):
    sample = mmseg.structures.SegDataSample()
    sample.gt_sem_seg = PixelData(data=label)
    return sample


def score(cfg: Config, change) -> dict:
    """Metrics of a prediction: the truth where scored, elsewhere 0, then changed."""
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    sample = dataset[0]['data_samples']
    raw = dataset[0]['inputs'][:1].long()
    truth = sample.gt_sem_seg.data
    prediction = torch.where(truth == IGNORED, 0, truth.long())
    sample.pred_sem_seg = PixelData(data=change(prediction, raw))
    metric = METRICS.build(cfg.test_evaluator)
    metric.dataset_meta = dataset.metainfo
    metric.process({}, [sample.to_dict()])
    return metric.evaluate(1)


@pytest.mark.parametrize('data', ['potsdam', 'vaihingen'])
def test_fate_of_each_isprs_label_in_evaluation(data, tmp_path):
    cfg = load(f'upernet_r50_{data}.py')
    isprs_tile(tmp_path, cfg)
    # Wrong in every way on clutter and boundaries, right elsewhere.
    for wrong in range(5):
        metrics = score(cfg, lambda p, raw, w=wrong: torch.where(raw % 6 == 0, w, p))
        assert metrics['mIoU'] == metrics['mFscore'] == metrics['aAcc'] == 100
    # All cars called trees: one class of five lost, another halved.
    metrics = score(cfg, lambda p, raw: torch.where(raw == 5, 3, p))
    assert metrics['aAcc'] == 80
    assert metrics['mIoU'] == pytest.approx((3 * 100 + 50 + 0) / 5)
    assert metrics['mFscore'] == pytest.approx((3 * 100 + 200 / 3 + 0) / 5, abs=0.01)


def test_clutter_cannot_be_predicted(tmp_path):
    names = [name for name in NAMES if 'potsdam' in name or 'vaihingen' in name]
    assert len(names) > 3
    for name in names:
        cfg = load(name)
        assert cfg.model.decode_head.num_classes == 5
        assert cfg.model.auxiliary_head.num_classes == 5
        assert cfg.dataset_type == 'FiveClassISPRSDataset'


def test_clutter_as_a_sixth_class_is_refused(tmp_path):
    cfg = load('upernet_r50_potsdam.py')
    isprs_tile(tmp_path, cfg)
    dataset = cfg.train_dataloader.dataset
    six = mmseg.datasets.PotsdamDataset.METAINFO['classes']
    with pytest.raises(ValueError, match=r'clutter included, use .*num_classes=6'):
        DATASETS.build({**dataset, 'metainfo': dict(classes=six)})
    with pytest.raises(ValueError, match='remove reduce_zero_label'):
        DATASETS.build({**dataset, 'reduce_zero_label': True})


def test_fate_of_each_loveda_label(tmp_path):
    cfg = load('upernet_r50_loveda.py')
    dataset = cfg.val_dataloader.dataset
    dataset.data_root = str(tmp_path)
    label = np.arange(8, dtype=np.uint8)[None].repeat(8, 0)
    write(tmp_path / 'img_dir/val/0.png', np.stack([label] * 3, axis=2))
    write(tmp_path / 'ann_dir/val/0.png', label)
    dataset = DATASETS.build(dataset)
    truth = dataset[0]['data_samples'].gt_sem_seg.data
    assert truth[0, 0].tolist() == [IGNORED, 0, 1, 2, 3, 4, 5, 6]
    assert dataset.metainfo['classes'][4] == 'barren'


# -- Testing ---------------------------------------------------------------------


def small_model(cfg: Config, **test_cfg) -> torch.nn.Module:
    shrink(cfg)
    if test_cfg:
        cfg.model.test_cfg = test_cfg
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    torch.nn.init.normal_(model.decode_head.conv_seg.weight)
    return model


def test_sliding_windows(tmp_path):
    cfg = load('upernet_r50_potsdam.py')
    make_tiles(tmp_path, cfg, size=96, count=1)
    batch = batch_of(DATASETS.build(cfg.test_dataloader.dataset), 1)

    def logits(**test_cfg):
        model = small_model(load('upernet_r50_potsdam.py'), **test_cfg)
        return model.test_step(copy.deepcopy(batch))[0].seg_logits.data

    whole = logits()
    one = logits(mode='slide', crop_size=(96, 96), stride=(64, 64))
    torch.testing.assert_close(one, whole)
    # Four windows of 64 that share 32 pixels: the mean of those that see a pixel.
    four = logits(mode='slide', crop_size=(64, 64), stride=(32, 32))
    inputs = batch['inputs'][0]
    total, count = torch.zeros_like(whole), torch.zeros(96, 96)
    for top in (0, 32):
        for left in (0, 32):
            window = (slice(top, top + 64), slice(left, left + 64))
            model = small_model(load('upernet_r50_potsdam.py'))
            part = model.test_step(dict(inputs=[inputs[(..., *window)]]))
            total[(..., *window)] += part[0].seg_logits.data
            count[window] += 1
    torch.testing.assert_close(four, total / count)
    assert not torch.allclose(four, whole, atol=1e-3)


def test_flips_average_the_predictions_of_mirror_images(tmp_path):
    cfg = load('upernet_r50_potsdam.py')
    make_tiles(tmp_path, cfg, count=1)
    # As tools/test.py --tta does.
    model = small_model(cfg)
    plain = DATASETS.build(cfg.test_dataloader.dataset)
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    augmented = DATASETS.build(cfg.test_dataloader.dataset)
    tta = MODELS.build({**cfg.tta_model, 'module': model})
    sample = augmented[0]
    assert len(sample['inputs']) == 3
    batch = {key: [[item] for item in value] for key, value in sample.items()}
    prediction = tta.test_step(batch)[0]

    image = plain[0]['inputs']
    total = torch.zeros(5, 64, 64)
    for axes in ((), (2,), (1,)):
        logits = model.test_step(dict(inputs=[image.flip(axes)]))[0].seg_logits.data
        total += logits.flip(axes).softmax(dim=0)
    expected = total.argmax(dim=0)
    assert torch.equal(prediction.pred_sem_seg.data.squeeze(), expected)
    alone = model.test_step(batch_of(plain, 1))[0].pred_sem_seg.data[0]
    assert not torch.equal(alone, expected)
    # Scored against the labels as they are, none mirrored.
    truth = plain[0]['data_samples'].gt_sem_seg.data
    assert torch.equal(prediction.gt_sem_seg.data, truth)


# -- Bands -----------------------------------------------------------------------


def test_five_bands_through_a_training_step(tmp_path):
    rng = np.random.default_rng(0)
    bands = rng.integers(0, 10000, (5, 64, 64)).astype(np.uint16)
    profile = dict(driver='GTiff', height=64, width=64, count=5, dtype='uint16')
    for folder in ('img_dir/train', 'ann_dir/train'):
        (tmp_path / folder).mkdir(parents=True)
    for name in ('0', '1'):
        with rasterio.open(tmp_path / f'img_dir/train/{name}.tif', 'w', **profile) as f:
            f.write(bands)
        label = rng.integers(1, 6, (64, 64), np.uint8)
        write(tmp_path / f'ann_dir/train/{name}.png', label)

    cfg = Config.fromfile(CONFIGS / 'upernet_r50_potsdam.py')
    cfg.merge_from_dict(FIVE_BANDS)
    cfg.train_dataloader.dataset.data_root = str(tmp_path)
    shrink(cfg)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    batch = batch_of(dataset)
    assert [x.shape for x in batch['inputs']] == [(5, 64, 64)] * 2
    model = build_model(cfg).train()
    data = model.data_preprocessor(copy.deepcopy(batch), training=True)
    assert data['inputs'].shape == (2, 5, 512, 512)
    # value_range maps 0-10000 to 0-255; then each band has its mean; rows may be
    # mirrored.
    mean = np.array(FIVE_BANDS['model.data_preprocessor']['mean'])[:, None]
    expected = (bands[:, 0] * 0.0255 - mean) / 50
    row = data['inputs'][0, :, 0, :64].numpy()
    assert any(np.allclose(row, x, atol=1e-3) for x in (expected, expected[:, ::-1]))
    model.data_preprocessor.size = (64, 64)
    losses = model.train_step(batch, build_optim_wrapper(model, cfg.optim_wrapper))
    assert torch.isfinite(losses['loss'])


#: What the README tells users to change.
FIVE_BANDS = {
    'model.data_preprocessor': dict(
        _delete_=True,
        type='MultiBandSegDataPreProcessor',
        mean=[100.0, 110.0, 120.0, 130.0, 140.0],
        std=[50.0] * 5,
        size=(512, 512),
        seg_pad_val=255,
    ),
    'model.backbone.in_channels': 5,
    'train_dataloader.dataset.img_suffix': '.tif',
    'train_dataloader.dataset.pipeline': [
        dict(type='mmpretrain.LoadImagery', num_bands=5, value_range=(0, 10000)),
        dict(type='LoadIndexMask'),
        dict(type='RandomCrop', crop_size=(512, 512), cat_max_ratio=0.75),
        dict(type='RandomFlip', prob=0.5),
        dict(type='PackSegInputs'),
    ],
}


def test_as_many_deviations_as_means():
    cfg = load('upernet_r50_potsdam.py')  # imports the class
    preprocessor = dict(type='MultiBandSegDataPreProcessor', mean=[0.0] * 5)
    with pytest.raises(ValueError, match='5 values of mean, but 4 of std'):
        MODELS.build(dict(**preprocessor, std=[1.0] * 4))
    assert cfg.custom_imports.imports[0] == 'cmid_mm'
