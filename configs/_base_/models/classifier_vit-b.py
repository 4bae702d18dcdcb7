_base_ = 'classifier_swin-b.py'

model = dict(
    # The mean of the last map, then a norm, as MAE is fine-tuned.
    backbone=dict(
        _delete_=True,
        type='VisionTransformer',
        arch='base',
        img_size=224,
        patch_size=16,
        drop_path_rate=0.1,
        out_type='avg_featmap',
        final_norm=False,
    ),
    neck=None,
    head=dict(in_channels=768),
)
