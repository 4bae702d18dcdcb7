_base_ = [
    '../_base_/models/classifier_swin-b.py',
    '../_base_/datasets/eurosat.py',
    '../_base_/schedules/classification_adan_200e.py',
    '../_base_/classification_runtime.py',
]

model = dict(head=dict(num_classes=10))
