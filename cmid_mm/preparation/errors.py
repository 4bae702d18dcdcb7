# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What can be wrong with a download."""


class PreparationError(ValueError):
    """A download that is not as expected, or an output that is not complete."""
