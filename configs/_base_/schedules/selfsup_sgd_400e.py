_base_ = 'selfsup_sgd_200e.py'

max_epochs = 400
param_scheduler = [
    dict(
        type='CosineAnnealingLR',
        eta_min=0.0,
        end=max_epochs,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=max_epochs)
