# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What can be wrong with a label file."""


class LabelError(ValueError):
    """A label file does not hold what is expected; the message names file and line."""
