"""Tests of edits, from request to result."""
