"""Tests of FLUX's part."""
