_base_ = [
    '../_base_/models/classifier_swin-b.py',
    '../_base_/datasets/ucmerced.py',
    '../_base_/schedules/classification_adan_2k.py',
    '../_base_/classification_runtime.py',
]

# 10 % of the training images. For 5 or 1 %:
# --cfg-options train_dataloader.dataset.fraction=0.05
model = dict(head=dict(num_classes=21))
train_dataloader = dict(
    sampler=dict(type='InfiniteSampler'), dataset=dict(fraction=0.1)
)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=500))
