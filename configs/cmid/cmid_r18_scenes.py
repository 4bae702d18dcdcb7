_base_ = [
    '../_base_/models/cmid_r18.py',
    '../_base_/datasets/view_pairs.py',
    '../_base_/schedules/cmid_adan_200e.py',
    '../_base_/cmid_runtime.py',
]

# A laptop and some thousand images: small views, and what depends on the number
# of images and epochs made smaller with it.
image_size = 96
batch_size = 32
max_epochs = 30
warmup_epochs = 1

model = dict(
    momentum=0.99,
    heads=dict(
        contrastive=dict(queue_size=1024),
        assignment=dict(num_prototypes=512, num_matches=4, temperature_epochs=10),
    ),
)
train_pipeline = [
    dict(type='LoadImagery', size=image_size),
    dict(type='ViewPair', size=image_size),
    dict(type='PhotometricNoise'),
    dict(type='MaskPair', size=image_size, patch_size=16),
    dict(type='PackViewPair'),
]
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=1,
    dataset=dict(pipeline=train_pipeline),
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
auto_scale_lr = dict(base_batch_size=batch_size)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=0.01,
        end=warmup_epochs,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-6,
        begin=warmup_epochs,
        end=max_epochs,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=max_epochs)
