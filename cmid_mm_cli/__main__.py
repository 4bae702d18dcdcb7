# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""``python -m cmid_mm_cli``, the same as ``cmid-mm``."""

from . import main

main()
