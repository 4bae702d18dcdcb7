_base_ = [
    '../_base_/models/simmim_swin-b.py',
    '../_base_/datasets/millionaid.py',
    '../_base_/schedules/simmim_adamw_200e.py',
    '../_base_/baseline_runtime.py',
]

data_preprocessor = dict(stack_views=True, mask_stride=4, channels_last=False)
