_base_ = ['../_base_/models/upernet_r50.py', '../_base_/segmentation_runtime.py']

# The procedural scenes of tools/make_demo_data.py; minutes on a laptop's CPU.
data_root = 'demo/tasks/segmentation'
labelled_images = 40
tested_images = 100
crop_size = (128, 128)
max_iters = 150
num_classes = 8
metainfo = dict(
    classes=(
        'impervious',
        'building',
        'low_vegetation',
        'tree',
        'vehicle',
        'water',
        'bare_ground',
        'ship',
    ),
    palette=[
        [255, 255, 255],
        [0, 0, 255],
        [0, 255, 255],
        [0, 255, 0],
        [255, 255, 0],
        [0, 128, 192],
        [160, 120, 80],
        [255, 0, 0],
    ],
)

# Two thirds of the pixels are road, grass and trees: about the root of 1 / share.
class_weight = [0.7, 1.5, 0.6, 0.9, 2.2, 1.1, 1.2, 4.0]
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(depth=18),
    decode_head=dict(
        in_channels=[64, 128, 256, 512],
        channels=64,
        num_classes=num_classes,
        loss_decode=dict(class_weight=class_weight),
    ),
    auxiliary_head=dict(
        in_channels=256,
        channels=64,
        num_classes=num_classes,
        loss_decode=dict(class_weight=class_weight),
    ),
)

train_pipeline = [
    dict(type='LoadImagery'),
    dict(type='LoadIndexMask'),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomFlip', prob=0.5, direction='vertical'),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImagery'),
    dict(type='LoadIndexMask'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='IndexMaskFolder',
        metainfo=metainfo,
        data_root=data_root,
        data_prefix=dict(img_path='train/img', seg_map_path='train/ann'),
        img_suffix='.png',
        indices=labelled_images,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='IndexMaskFolder',
        metainfo=metainfo,
        data_root=data_root,
        data_prefix=dict(img_path='test/img', seg_map_path='test/ann'),
        img_suffix='.png',
        indices=tested_images,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
# Without nan_to_num, a class that is never predicted would be left out of mFscore.
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU', 'mFscore'], nan_to_num=0)
test_evaluator = val_evaluator

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='MatrixDecayConstructor',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, end=10, by_epoch=False),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-6,
        begin=10,
        end=max_iters,
        by_epoch=False,
    ),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters)
val_cfg = dict()
test_cfg = dict()
default_hooks = dict(
    logger=dict(interval=20),
    checkpoint=dict(by_epoch=False, interval=max_iters),
)
log_processor = dict(by_epoch=False)
