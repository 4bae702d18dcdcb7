_base_ = [
    '../_base_/models/cmid_rvsa-vit-b.py',
    '../_base_/datasets/millionaid.py',
    '../_base_/schedules/cmid_adan_200e.py',
    '../_base_/cmid_runtime.py',
]
