"""Tests of Kontext."""
