"""Pixels: reading, colour, canvas, registration, contact sheets."""
