model = dict(
    type='FlexibleDenseCL',
    backbone=dict(type='ResNet', depth=50),
    neck=dict(
        type='DenseCLNeck', in_channels=2048, hid_channels=2048, out_channels=128
    ),
    head=dict(
        type='ContrastiveHead', loss=dict(type='CrossEntropyLoss'), temperature=0.2
    ),
)
