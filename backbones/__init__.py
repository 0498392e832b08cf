"""FLUX: its components, checkpoints and file formats. diffusers is imported here and nowhere else.

`provider` is what the core finds; `flux.Flux` is the backbone that it gives.
"""

from editkit.quiet import silence_remarks

silence_remarks()
