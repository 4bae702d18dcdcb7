_base_ = ['default_runtime.py', 'millionaid_statistics.py']

data_preprocessor = dict(type='ViewPairPreprocessor', mean=_base_.mean, std=_base_.std)

custom_hooks = [
    dict(type='TeacherUpdateHook'),
    dict(type='UnreadableImagesHook'),
    dict(type='CollapseHook'),
    dict(type='ReconstructionHook', interval=10),
    dict(type='ThroughputHook'),
]
