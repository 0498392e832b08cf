"""Tests of what README and pages show."""
