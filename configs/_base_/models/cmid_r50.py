model = dict(
    type='CMID',
    channels_last=True,
    encoder=dict(
        backbone=dict(type='ResNet', depth=50),
        insert_after='maxpool',
        channels=64,
        stride=4,
    ),
    heads=dict(
        reconstruction=dict(type='ReconstructionHead', in_channels=2048, stride=32),
        contrastive=dict(type='MoCoHead', in_channels=2048),
        assignment=dict(type='AssignmentHead', in_channels=2048),
    ),
)
