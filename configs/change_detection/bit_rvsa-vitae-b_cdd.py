_base_ = 'bit_rvsa-vit-b_cdd.py'

model = dict(backbone=dict(type='RVSAViTAE'))
sync_bn = 'torch'  # few images on each of several GPUs
