_base_ = '../cmid/cmid_r50_millionaid.py'

model = dict(heads=dict(contrastive=None, assignment=None))
