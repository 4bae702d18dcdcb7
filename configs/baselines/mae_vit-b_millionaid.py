_base_ = [
    '../_base_/models/mae_vit-b.py',
    '../_base_/datasets/millionaid.py',
    '../_base_/schedules/mae_adamw_200e.py',
    '../_base_/baseline_runtime.py',
]

data_preprocessor = dict(stack_views=True, channels_last=False)
