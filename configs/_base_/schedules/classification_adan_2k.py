_base_ = 'classification_adan_200e.py'

# Epochs of a few images mean little: the same number of iterations whatever their
# number, that of 200 epochs of 10 batches.
max_iters = 2000
warmup_iters = 50
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=warmup_iters),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-6,
        by_epoch=False,
        begin=warmup_iters,
        end=max_iters,
    ),
]
train_cfg = dict(_delete_=True, by_epoch=False, max_iters=max_iters, val_interval=500)
log_processor = dict(by_epoch=False)
