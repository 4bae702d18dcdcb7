_base_ = [
    '../_base_/models/cmid_r18.py',
    '../_base_/datasets/small_view_pairs.py',
    '../_base_/schedules/cmid_adan_30e.py',
    '../_base_/cmid_runtime.py',
]

# Made smaller with the number of images and epochs; the mask and the contrastive
# temperature were found better on little data (docs/comparison.md) than the method's
# 0.6 and 0.2.
train_pipeline = [
    dict(step, ratio=0.3) if step.type == 'MaskPair' else step
    for step in _base_.train_pipeline
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
model = dict(
    momentum=0.99,
    heads=dict(
        contrastive=dict(queue_size=1024, temperature=0.1),
        assignment=dict(num_prototypes=512, num_matches=4, temperature_epochs=10),
    ),
)
