"""Tests of sessions and replay."""
