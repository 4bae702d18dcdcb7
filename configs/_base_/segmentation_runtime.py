_base_ = 'default_runtime.py'

default_scope = 'mmseg'
visualizer = dict(type='SegLocalVisualizer')
custom_hooks = [
    dict(type='NumClassesHook'),
    dict(type='UnreadableImagesHook'),
    dict(type='ThroughputHook'),
]
default_hooks = dict(
    checkpoint=dict(interval=5, max_keep_ckpts=1, save_best='mIoU', rule='greater'),
    visualization=dict(type='SegVisualizationHook'),
)

# tools/test.py --tta: the mean of the image's and its two mirror images' predictions.
tta_model = dict(type='SegTTAModel')
tta_pipeline = [
    dict(type='LoadImagery'),
    dict(
        type='TestTimeAug',
        transforms=[
            [
                dict(type='RandomFlip', prob=0.0),
                dict(type='RandomFlip', prob=1.0, direction='horizontal'),
                dict(type='RandomFlip', prob=1.0, direction='vertical'),
            ],
            [dict(type='LoadIndexMask')],
            [dict(type='PackSegInputs')],
        ],
    ),
]
