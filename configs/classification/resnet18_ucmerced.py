_base_ = [
    '../_base_/models/classifier_r50.py',
    '../_base_/datasets/ucmerced.py',
    '../_base_/schedules/classification_adan_200e.py',
    '../_base_/classification_runtime.py',
]

# A laptop: small images, few epochs, light augmentation.
image_size = 96
max_epochs = 5
warmup_epochs = 1

model = dict(
    backbone=dict(depth=18), head=dict(num_classes=21, in_channels=512), train_cfg=None
)
train_pipeline = [
    dict(type='LoadImagery'),
    dict(type='RandomResizedCrop', scale=image_size, crop_ratio_range=(0.5, 1.0)),
    dict(type='RandomFlip', prob=[0.25] * 2, direction=['horizontal', 'vertical']),
    dict(type='PackInputs'),
]
test_pipeline = [dict(type='LoadImagery', size=image_size), dict(type='PackInputs')]
loading = dict(num_workers=1, persistent_workers=True)
train_dataloader = dict(**loading, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(**loading, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=1e-3))
_base_.param_scheduler[0].end = warmup_epochs
_base_.param_scheduler[1].update(begin=warmup_epochs, end=max_epochs)
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
default_hooks = dict(checkpoint=dict(interval=max_epochs))
