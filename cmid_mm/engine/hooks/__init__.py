# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
from .feature_evaluation_hook import FeatureEvaluationHook
from .reconstruction_hook import ReconstructionHook
from .teacher_update_hook import TeacherUpdateHook
from .throughput_hook import ThroughputHook
from .unreadable_images_hook import UnreadableImagesHook

__all__ = [
    'FeatureEvaluationHook',
    'ReconstructionHook',
    'TeacherUpdateHook',
    'ThroughputHook',
    'UnreadableImagesHook',
]
