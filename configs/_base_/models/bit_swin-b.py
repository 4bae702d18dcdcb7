_base_ = 'bit_r50.py'

# Swin-B without its last stage.
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.SwinTransformer',
        arch=dict(embed_dims=128, depths=[2, 2, 18], num_heads=[4, 8, 16]),
        img_size=256,
        out_indices=(2,),
        pad_small_map=True,
    ),
    decode_head=dict(in_channels=512),
)
