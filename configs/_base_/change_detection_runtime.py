_base_ = 'default_runtime.py'

default_scope = 'mmseg'
visualizer = dict(type='SegLocalVisualizer')
# The best by the F1 of the change class, and the last.
default_hooks = dict(
    checkpoint=dict(interval=1, max_keep_ckpts=1, save_best='F1', rule='greater')
)

# tools/test.py --tta: the mean of the pair's and its two mirror images' predictions.
tta_model = dict(type='SegTTAModel')
