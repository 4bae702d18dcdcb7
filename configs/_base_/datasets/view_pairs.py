image_size = 224
train_pipeline = [
    dict(type='LoadImagery', size=image_size),
    dict(type='ViewPair', size=image_size),
    dict(type='PhotometricNoise'),
    dict(type='MaskPair', size=image_size, patch_size=32),
    dict(type='PackViewPair'),
]
train_dataloader = dict(
    batch_size=64,
    num_workers=8,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='ResumableSampler'),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='ImageryDataset', data_root='data/imagery', pipeline=train_pipeline
    ),
)
