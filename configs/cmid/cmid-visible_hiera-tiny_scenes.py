_base_ = 'cmid_vit-tiny_scenes.py'

# Hiera, whose student computes nothing for masked cells: 6 of 9, of 32 pixels each.
train_pipeline = [
    dict(step, patch_size=32, ratio=0.6) if step.type == 'MaskPair' else step
    for step in _base_.train_pipeline
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
model = dict(
    encoder=dict(
        _delete_=True,
        type='VisibleEncoder',
        backbone=dict(
            type='VisibleHiera',
            arch='hiera_tiny_224',
            img_size=_base_.image_size,
            out_indices=(2, 3),
        ),
    ),
    heads=dict(
        reconstruction=dict(stage=-2, in_channels=384, stride=16, hidden_channels=128),
        contrastive=dict(in_channels=768),
        assignment=dict(stage=-2, in_channels=384, num_matches=18),
    ),
)
