"""FLUX: its components, checkpoints and file formats. diffusers is imported here and nowhere else."""
