model = dict(
    type='CMID',
    encoder=dict(
        backbone=dict(
            type='VisionTransformer',
            arch='base',
            img_size=224,
            patch_size=16,
            out_type='featmap',
        ),
        insert_after='patch_embed',
        channels=768,
        stride=16,
        token_std=0.02,
    ),
    heads=dict(
        reconstruction=dict(type='ReconstructionHead', in_channels=768, stride=16),
        contrastive=dict(type='MoCoHead', in_channels=768),
        assignment=dict(type='AssignmentHead', in_channels=768, batch_norm=False),
    ),
)
