_base_ = '../cmid/cmid_r50_potsdam.py'

model = dict(heads=dict(contrastive=None, assignment=None))
