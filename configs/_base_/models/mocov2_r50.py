model = dict(
    type='FlexibleMoCo',
    backbone=dict(type='ResNet', depth=50),
    neck=dict(type='MoCoV2Neck', in_channels=2048, hid_channels=2048, out_channels=128),
    head=dict(
        type='ContrastiveHead', loss=dict(type='CrossEntropyLoss'), temperature=0.2
    ),
)
