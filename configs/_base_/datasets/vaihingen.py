_base_ = 'potsdam_segmentation.py'

prepared_by = 'vaihingen'
data_root = 'data/vaihingen'
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = dict(dataset=dict(data_root=data_root))
