"""Pixels: pictures, masks, colour, canvas, registration, contact sheets."""
