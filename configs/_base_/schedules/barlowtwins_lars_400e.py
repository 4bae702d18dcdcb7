_base_ = 'barlowtwins_lars_200e.py'

max_epochs = 400
_base_.param_scheduler[1].end = max_epochs
train_cfg = dict(max_epochs=max_epochs)
