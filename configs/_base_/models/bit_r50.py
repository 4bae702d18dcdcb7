# The first three stages: the head takes the stride-16 map.
model = dict(
    type='SiameseEncoderDecoder',
    data_preprocessor=dict(
        type='BitemporalPreprocessor', mean=[0.0], std=[255.0], size=(256, 256)
    ),
    backbone=dict(
        type='mmpretrain.ResNet',
        depth=50,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(2,),
    ),
    decode_head=dict(
        type='BITHead',
        in_channels=1024,
        channels=32,
        num_classes=2,
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
