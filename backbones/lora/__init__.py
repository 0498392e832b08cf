"""LoRA files of FLUX in every dialect."""
