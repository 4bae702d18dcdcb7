_base_ = 'oriented-rcnn_r50.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='RVSAViT',
        img_size=1024,
        drop_path_rate=0.15,
        # The released detectors: out_indices=(11, 11, 11, 11), final_norm=True.
        out_type='pyramid',
        out_indices=(3, 5, 7, 11),
        final_norm=False,
    ),
    neck=dict(in_channels=[768, 768, 768, 768]),
)
