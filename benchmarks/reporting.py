# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What all benchmarks do with their figures."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``, the file for the figures."""
    parser.add_argument(
        '--json', type=Path, metavar='OUT', help='write the figures to this file'
    )


def report(figures: Mapping[str, Any], file: Path | None) -> None:
    """Print figures, and write them to the file of ``--json`` if it was given."""
    print(json.dumps(figures, indent=2))
    write(figures, file)


def write(figures: Mapping[str, Any], file: Path | None) -> None:
    """Write figures, which were printed otherwise."""
    if file is not None:
        file.write_text(json.dumps(figures, indent=2) + '\n', encoding='utf-8')
