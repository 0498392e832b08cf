"""Read, check, convert and write LoRA files of FLUX in every dialect."""
