"""Tests, in the folders of what they test; what several of them share lies beside them."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The checkout."""
