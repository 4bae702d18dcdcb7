# Statistics of MillionAID, RGB, on the 0-255 scale.
data_preprocessor = dict(
    type='ViewPairPreprocessor',
    mean=[86.18235, 91.9275, 85.374],
    std=[34.6545, 34.476, 35.8785],
)
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
