_base_ = 'default_runtime.py'

default_scope = 'mmpretrain'

# The last checkpoint and the one with the best validation.
default_hooks = dict(
    checkpoint=dict(max_keep_ckpts=1, save_best='accuracy/OA', rule='greater')
)
custom_hooks = [
    dict(type='NumClassesHook'),
    dict(type='UnreadableImagesHook'),
    dict(type='ThroughputHook'),
    dict(type='ConfusionMatrixHook'),
]
