_base_ = ['default_runtime.py', 'millionaid_statistics.py']

data_preprocessor = dict(
    type='SelfSupViewPreprocessor',
    mean=_base_.mean,
    std=_base_.std,
    channels_last=True,
)

custom_hooks = [
    dict(type='UnreadableImagesHook'),
    dict(type='CollapseHook'),
    dict(type='ThroughputHook'),
]
