_base_ = 'classifier_swin-b.py'

model = dict(
    # The mean of the last map, then the norm, as the released classifiers.
    backbone=dict(
        _delete_=True,
        type='RVSAViT',
        img_size=224,
        drop_path_rate=0.1,
        out_type='avg_featmap',
    ),
    neck=None,
    head=dict(in_channels=768),
)
