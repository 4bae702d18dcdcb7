_base_ = 'default_runtime.py'

custom_hooks = [
    dict(type='UnreadableImagesHook'),
    dict(type='ThroughputHook'),
]
