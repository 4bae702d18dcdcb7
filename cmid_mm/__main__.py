# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""``python -m cmid_mm``, the same as ``cmid-mm`` but for the time its import takes."""

from cmid_mm_cli import main

main()
