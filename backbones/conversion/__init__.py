"""FLUX checkpoints in the namings of Black Forest Labs and diffusers."""
