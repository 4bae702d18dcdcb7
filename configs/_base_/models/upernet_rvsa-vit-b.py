_base_ = 'upernet_r50.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='RVSAViT',
        img_size=512,
        drop_path_rate=0.1,
        out_type='pyramid',
        out_indices=(3, 5, 7, 11),
        final_norm=False,
    ),
    decode_head=dict(in_channels=[768, 768, 768, 768]),
    auxiliary_head=dict(in_channels=768),
)
