_base_ = 'scenes.py'

# The fixed split: 80 training and 20 test images of each class.
prepared_by = 'ucmerced'
dataset = dict(type='UCMerced', data_root='data/ucmerced')
data_preprocessor = dict(num_classes=21)
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = val_dataloader
