_base_ = 'change_pairs.py'

# 10 000, 3 000 and 3 000 pairs of 256 x 256 pixels; masks are JPEG files.
data_root = 'data/cdd'
prepared_by = 'cdd'
train_dataloader = dict(dataset=dict(data_root=data_root, label_dir='OUT'))
val_dataloader = dict(batch_size=8, dataset=dict(data_root=data_root, label_dir='OUT'))
test_dataloader = dict(batch_size=8, dataset=dict(data_root=data_root, label_dir='OUT'))
