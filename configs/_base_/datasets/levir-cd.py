_base_ = 'change_pairs.py'

# Training tiles of 256 x 256 pixels; validation and test in full size, 1024 x 1024.
data_root = 'data/LEVIR-CD'
prepared_by = 'levir-cd'
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = dict(dataset=dict(data_root=data_root))
