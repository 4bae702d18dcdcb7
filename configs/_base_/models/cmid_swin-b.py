model = dict(
    type='CMID',
    encoder=dict(
        backbone=dict(
            type='SwinTransformer', arch='base', img_size=224, drop_path_rate=0.0
        ),
        insert_after='patch_embed',
        channels=128,
        stride=4,
        token_std=0.02,
    ),
    heads=dict(
        reconstruction=dict(type='ReconstructionHead', in_channels=1024, stride=32),
        contrastive=dict(type='MoCoHead', in_channels=1024),
        assignment=dict(type='AssignmentHead', in_channels=1024, batch_norm=False),
    ),
)
