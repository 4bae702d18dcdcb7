_base_ = 'cmid-crops_r18_scenes.py'

# The student's convolutions never see masked pixels: cells of 32 pixels, each one
# position of the last feature map. The decoder looks around a position, so it reads a
# stage at which a cell is 2 x 2 of them.
train_pipeline = [
    dict(step, patch_size=32) if step.type == 'MaskPair' else step
    for step in _base_.train_pipeline
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
model = dict(
    encoder=dict(
        _delete_=True,
        type='VisibleEncoder',
        backbone=dict(type='VisibleResNet', depth=18, out_indices=(1, 2, 3)),
    ),
    heads=dict(reconstruction=dict(stage=-2, in_channels=256, stride=16)),
)
