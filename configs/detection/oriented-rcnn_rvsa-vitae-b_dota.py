_base_ = 'oriented-rcnn_rvsa-vit-b_dota.py'

model = dict(backbone=dict(type='RVSAViTAE'))
sync_bn = 'torch'  # few images on each of several GPUs
