# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What a transform needs of those before it."""

from typing import Any


def require(transform: Any, results: dict[str, Any], **makers: str) -> None:
    """Refuse a pipeline that lacks a transform, or has it too late.

    Args:
        transform: The one that needs something.
        results: What it is given.
        **makers: What makes each key that it needs.

    Raises:
        KeyError: If a key is missing.
    """
    for key, maker in makers.items():
        if key not in results:
            raise KeyError(
                f'{type(transform).__name__} needs {key!r}: put {maker} before it in '
                'the pipeline'
            )
