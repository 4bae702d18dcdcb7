model = dict(
    type='SwAV',
    backbone=dict(type='ResNet', depth=50, zero_init_residual=True),
    neck=dict(
        type='SwAVNeck',
        in_channels=2048,
        hid_channels=2048,
        out_channels=128,
        norm_cfg=dict(type='BN1d'),
    ),
    head=dict(
        type='SwAVHead',
        loss=dict(
            type='QueuedSwAVLoss',
            feat_dim=128,
            num_prototypes=3000,
            epsilon=0.05,
            temperature=0.1,
            queue_length=3840,
            queue_start_epoch=15,
            frozen_epochs=1,
        ),
    ),
)
