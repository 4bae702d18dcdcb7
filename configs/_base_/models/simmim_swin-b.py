# Masks come from the data pipeline: MaskPair's cells, as many as SimMIM's own.
model = dict(
    type='SimMIM',
    backbone=dict(
        type='SimMIMSwinTransformer', arch='base', img_size=224, drop_path_rate=0.0
    ),
    neck=dict(type='SimMIMDecoder', in_channels=1024, encoder_stride=32),
    head=dict(
        type='SimMIMHead',
        patch_size=4,
        loss=dict(type='PixelReconstructionLoss', criterion='L1', channel=3),
    ),
)
