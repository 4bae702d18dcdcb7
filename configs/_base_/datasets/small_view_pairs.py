_base_ = 'view_pairs.py'

# A laptop and some thousand images: small views in small batches.
image_size = 96
batch_size = 32
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
