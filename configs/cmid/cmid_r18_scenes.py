_base_ = [
    '../_base_/models/cmid_r18.py',
    '../_base_/datasets/small_view_pairs.py',
    '../_base_/schedules/cmid_adan_30e.py',
    '../_base_/cmid_runtime.py',
]

# Made smaller with the number of images and epochs.
model = dict(
    momentum=0.99,
    heads=dict(
        contrastive=dict(queue_size=1024),
        assignment=dict(num_prototypes=512, num_matches=4, temperature_epochs=10),
    ),
)
