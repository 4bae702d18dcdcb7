_base_ = 'cmid_adan_200e.py'

# For batches of 32 images.
max_epochs = 30
warmup_epochs = 1
optim_wrapper = dict(optimizer=dict(lr=1e-3))
auto_scale_lr = dict(base_batch_size=32)
_base_.param_scheduler[0].end = warmup_epochs
_base_.param_scheduler[1].update(begin=warmup_epochs, end=max_epochs)
train_cfg = dict(max_epochs=max_epochs)
