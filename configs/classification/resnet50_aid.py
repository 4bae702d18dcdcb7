_base_ = [
    '../_base_/models/classifier_r50.py',
    '../_base_/datasets/aid.py',
    '../_base_/schedules/classification_adan_200e.py',
    '../_base_/classification_runtime.py',
]

model = dict(head=dict(num_classes=30))
