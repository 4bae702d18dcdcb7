_base_ = 'default_runtime.py'

custom_hooks = [
    dict(type='InputBandsHook'),
    dict(type='UnreadableImagesHook'),
    dict(type='ThroughputHook'),
]
