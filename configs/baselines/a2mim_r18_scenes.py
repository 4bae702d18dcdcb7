_base_ = '../cmid/cmid_r18_scenes.py'

model = dict(heads=dict(contrastive=None, assignment=None))
# The mask of A2MIM; CMID's small configs have less.
train_pipeline = [
    *_base_.train_pipeline[:3],
    dict(type='MaskPair', size=_base_.image_size, patch_size=16, ratio=0.6),
    *_base_.train_pipeline[4:],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
