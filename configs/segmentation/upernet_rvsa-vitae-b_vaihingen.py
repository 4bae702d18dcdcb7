_base_ = 'upernet_rvsa-vit-b_vaihingen.py'

model = dict(backbone=dict(type='RVSAViTAE'))
sync_bn = 'torch'  # few images on each of several GPUs
