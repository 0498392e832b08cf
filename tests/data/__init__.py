"""Tests of training pairs."""
