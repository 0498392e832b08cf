"""Tests of ACE++."""
