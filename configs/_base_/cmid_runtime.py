_base_ = 'default_runtime.py'

custom_hooks = [
    dict(type='TeacherUpdateHook'),
    dict(type='UnreadableImagesHook'),
    dict(type='ReconstructionHook', interval=10),
    dict(type='ThroughputHook'),
]
