_base_ = 'selfsup_lars_200e.py'

# Barlow Twins (arXiv 2103.03230): for a batch of 256, 0.2 for weights and 0.0048 for
# biases and norms, falling to a thousandth.
excluded = dict(lr_mult=0.024)
optim_wrapper = dict(
    optimizer=dict(lr=0.2),
    paramwise_cfg=dict(
        custom_keys={'bn': excluded, 'bias': excluded, 'downsample.1': excluded}
    ),
)
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
        end=200,
        convert_to_iter_based=True,
    ),
]
