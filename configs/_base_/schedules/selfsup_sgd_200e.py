# MoCo-v2 (arXiv 2003.04297) and DenseCL (arXiv 2011.09157): 0.03 for a batch of 256.
optim_wrapper = dict(
    type='AmpOptimWrapper',
    optimizer=dict(type='SGD', lr=0.03, momentum=0.9, weight_decay=1e-4),
)
auto_scale_lr = dict(enable=False, base_batch_size=256)
max_epochs = 200
param_scheduler = [
    dict(
        type='CosineAnnealingLR',
        eta_min=0.0,
        end=max_epochs,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(type='ResumableTrainLoop', max_epochs=max_epochs)
