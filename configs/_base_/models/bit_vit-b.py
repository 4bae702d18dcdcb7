_base_ = 'bit_r50.py'

# The last map has stride 16, as the head wants it.
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.VisionTransformer',
        arch='base',
        img_size=256,
        patch_size=16,
        drop_path_rate=0.1,
        out_type='featmap',
    ),
    decode_head=dict(in_channels=768),
)
