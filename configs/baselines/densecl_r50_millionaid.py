_base_ = [
    '../_base_/models/densecl_r50.py',
    '../_base_/datasets/millionaid.py',
    '../_base_/schedules/selfsup_sgd_200e.py',
    '../_base_/baseline_runtime.py',
]

custom_hooks = [*_base_.custom_hooks, dict(type='DenseCLHook', start_iters=1000)]
