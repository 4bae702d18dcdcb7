_base_ = 'bit_r50.py'

# The last map has stride 16, as the head wants it.
model = dict(
    backbone=dict(_delete_=True, type='RVSAViT', img_size=256, drop_path_rate=0.1),
    decode_head=dict(in_channels=768),
)
