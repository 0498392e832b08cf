"""Load and run FLUX: its components, checkpoints and file formats. Only this package imports diffusers.

`provider` is what the core imports by name; `flux.Flux` is the backbone that it returns.
"""

from editkit.quiet import silence_remarks

silence_remarks()
