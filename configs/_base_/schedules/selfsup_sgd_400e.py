_base_ = 'selfsup_sgd_200e.py'

max_epochs = 400
_base_.param_scheduler[0].end = max_epochs
train_cfg = dict(max_epochs=max_epochs)
