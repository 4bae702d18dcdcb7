_base_ = 'default_runtime.py'

default_scope = 'mmrotate'
default_hooks = dict(
    checkpoint=dict(interval=1, max_keep_ckpts=1, save_best='dota/mAP', rule='greater'),
    visualization=dict(type='mmdet.DetVisualizationHook'),
)
# Images differ in size after augmentation; nothing to tune for one shape.
env_cfg = dict(cudnn_benchmark=False)
visualizer = dict(type='RotLocalVisualizer', name='visualizer')

# tools/test.py --tta: the boxes of the image and of its two mirror images, merged. The
# tta_pipeline belongs to the data set.
tta_model = dict(type='RotatedTTAModel')
