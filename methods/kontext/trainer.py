"""Kontext's training: the loss is over the canvas only, and some instructions are left out."""

import random

from editkit.method import Trainer
from methods.kontext.config import KontextConfig


class KontextTrainer(Trainer[KontextConfig]):
    """Adds prompt dropout, which true classifier-free guidance needs."""

    def reword(self, instruction: str, rng: random.Random) -> str:
        """Drop an instruction at random."""
        return "" if rng.random() < self.config.prompt_dropout else instruction
