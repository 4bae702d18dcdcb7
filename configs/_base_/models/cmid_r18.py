_base_ = 'cmid_r50.py'

model = dict(
    encoder=dict(backbone=dict(depth=18)),
    heads=dict(
        reconstruction=dict(in_channels=512),
        contrastive=dict(in_channels=512),
        assignment=dict(in_channels=512),
    ),
)
