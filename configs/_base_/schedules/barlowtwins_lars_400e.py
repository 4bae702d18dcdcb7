_base_ = 'barlowtwins_lars_200e.py'

max_epochs = 400
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1.6e-4,
        end=10,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=1e-3,
        begin=10,
        end=max_epochs,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=max_epochs)
