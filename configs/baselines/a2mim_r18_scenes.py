_base_ = '../cmid/cmid_r18_scenes.py'

model = dict(heads=dict(contrastive=None, assignment=None))
# The mask of A2MIM; CMID's small configs have less.
train_pipeline = [
    dict(step, ratio=0.6) if step.type == 'MaskPair' else step
    for step in _base_.train_pipeline
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
