"""Presets for devices with little memory."""
