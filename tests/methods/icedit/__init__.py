"""Tests of ICEdit."""
