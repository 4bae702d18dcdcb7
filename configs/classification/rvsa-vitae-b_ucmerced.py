_base_ = 'rvsa-vit-b_ucmerced.py'

model = dict(backbone=dict(type='RVSAViTAE'))
sync_bn = 'torch'  # few images on each of several GPUs
