_base_ = 'scenes.py'

# 2:8, the harder of the usual splits; see tools/split_dataset.py for 5:5.
prepared_by = 'aid'
dataset = dict(type='AID', data_root='data/aid')
data_preprocessor = dict(num_classes=30)
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = val_dataloader
