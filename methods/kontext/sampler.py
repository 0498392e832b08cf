"""Kontext's sampler: the shared one, as released."""

from editkit.method import Sampler
from methods.kontext.config import KontextConfig


class KontextSampler(Sampler[KontextConfig]):
    """Plain Euler steps on the canvas' tokens; the context's tokens stay as they are."""
