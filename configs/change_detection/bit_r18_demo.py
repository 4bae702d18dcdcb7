_base_ = [
    '../_base_/models/bit_r50.py',
    '../_base_/datasets/change_pairs.py',
    '../_base_/change_detection_runtime.py',
]

# Two minutes on one CPU core, on the pairs that tools/make_demo_data.py draws. Few of
# them are used, so that it matters where the backbone's weights come from.
data_root = 'demo/tasks/change'
crop_size = (128, 128)
max_iters = 200
num_labelled = 40

model = dict(
    # The statistics of the pre-training.
    data_preprocessor=dict(
        mean=[86.18235, 91.9275, 85.374],
        std=[34.6545, 34.476, 35.8785],
        size=crop_size,
    ),
    backbone=dict(depth=18),
    decode_head=dict(
        in_channels=256,
        # Changed pixels are few; without weights they are not learnt in this time.
        loss_decode=dict(avg_non_ignore=False, class_weight=[1.0, 5.0]),
    ),
)
train_pipeline = [
    dict(type='LoadImagePair'),
    dict(type='LoadChangeMask'),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='RandomFlip', prob=0.5, direction='vertical'),
    dict(type='RandomRotate90'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(_delete_=True, type='InfiniteSampler', shuffle=True),
    dataset=dict(data_root=data_root, pipeline=train_pipeline, indices=num_labelled),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root=data_root, split='test', indices=100),
)
test_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root=data_root),
)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-4, weight_decay=0.01),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, end=20, by_epoch=False),
    dict(type='PolyLR', power=1.0, begin=20, end=max_iters, by_epoch=False),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(by_epoch=False, interval=max_iters),
)
log_processor = dict(by_epoch=False)
