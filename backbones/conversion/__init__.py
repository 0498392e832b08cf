"""Convert FLUX checkpoints between the namings of Black Forest Labs and diffusers."""
