model = dict(
    type='CMID',
    channels_last=True,
    encoder=dict(
        backbone=dict(type='ConvNeXt', arch='base', gap_before_final_norm=False),
        insert_after='downsample_layers.0',
        channels=128,
        stride=4,
    ),
    heads=dict(
        reconstruction=dict(type='ReconstructionHead', in_channels=1024, stride=32),
        contrastive=dict(type='MoCoHead', in_channels=1024),
        assignment=dict(type='AssignmentHead', in_channels=1024),
    ),
)
