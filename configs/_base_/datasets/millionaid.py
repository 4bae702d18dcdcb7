_base_ = 'view_pairs.py'

# The test split's images, about one million, unlabelled.
train_dataloader = dict(dataset=dict(data_root='data/millionaid/test'))
