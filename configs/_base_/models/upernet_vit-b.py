_base_ = 'upernet_r50.py'

# Maps of stride 16 of four depths, made a pyramid of strides 4 to 32.
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.VisionTransformer',
        arch='base',
        img_size=512,
        patch_size=16,
        drop_path_rate=0.1,
        out_type='featmap',
        out_indices=(3, 5, 7, 11),
        final_norm=False,
    ),
    neck=dict(type='Feature2Pyramid', embed_dim=768, norm_cfg=_base_.norm_cfg),
    decode_head=dict(in_channels=[768, 768, 768, 768]),
    auxiliary_head=dict(in_channels=768),
)
