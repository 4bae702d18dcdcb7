_base_ = [
    '../_base_/models/classifier_vit-b.py',
    '../_base_/datasets/ucmerced.py',
    '../_base_/schedules/classification_adamw-ld_200e.py',
    '../_base_/classification_runtime.py',
]

model = dict(head=dict(num_classes=21))
train_dataloader = dict(batch_size=64)
