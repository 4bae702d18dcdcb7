_base_ = '../cmid/cmid_r18_scenes.py'

model = dict(heads=dict(contrastive=None, assignment=None))
