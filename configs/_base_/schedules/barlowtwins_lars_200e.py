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
_base_.param_scheduler[0].start_factor = 1.6e-4
_base_.param_scheduler[1] = dict(
    type='CosineAnnealingLR',
    eta_min_ratio=1e-3,
    begin=_base_.warmup_epochs,
    end=_base_.max_epochs,
    convert_to_iter_based=True,
)
