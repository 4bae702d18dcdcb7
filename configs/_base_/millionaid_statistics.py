# Of MillionAID, on which the backbones are pre-trained: RGB, on the 0-255 scale.
mean = [86.18235, 91.9275, 85.374]
std = [34.6545, 34.476, 35.8785]
