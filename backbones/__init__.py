"""FLUX: its components, checkpoints and file formats. diffusers is imported here and nowhere else."""

from backbones.quiet import silence_remarks

silence_remarks()
