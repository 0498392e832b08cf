"""Tests of shipped YAML."""
