_base_ = [
    '../_base_/models/simsiam_r50.py',
    '../_base_/datasets/millionaid.py',
    '../_base_/schedules/selfsup_sgd_200e.py',
    '../_base_/baseline_runtime.py',
]

optim_wrapper = dict(
    optimizer=dict(lr=0.05),
    paramwise_cfg=dict(custom_keys=dict(predictor=dict(fix_lr=True))),
)
custom_hooks = [*_base_.custom_hooks, dict(type='FixedPredictorRateHook')]
sync_bn = 'torch'
