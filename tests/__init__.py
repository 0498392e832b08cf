"""Tests, in the folders of what they test; what several of them share lies beside them."""

from pathlib import Path

import backbones  # noqa: F401  (silences libraries, if it is imported before them)

ROOT = Path(__file__).resolve().parent.parent
"""The checkout."""
