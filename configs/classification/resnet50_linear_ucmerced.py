_base_ = [
    '../_base_/models/classifier_r50.py',
    '../_base_/datasets/ucmerced_linear.py',
    '../_base_/schedules/linear_probe_100e.py',
    '../_base_/classification_runtime.py',
]

# Nothing of the backbone changes. The features are standardised by a BatchNorm
# without weights, which makes one learning rate suit every backbone.
model = dict(
    backbone=dict(frozen_stages=4, norm_eval=True),
    neck=[
        dict(type='GlobalAveragePooling'),
        dict(type='ClsBatchNormNeck', input_features=2048),
    ],
    head=dict(num_classes=21, loss=dict(_delete_=True, type='CrossEntropyLoss')),
    train_cfg=None,
)
