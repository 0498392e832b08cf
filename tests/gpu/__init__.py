"""The rehearsal at 12 B on an accelerator, with what only that has: presets, compilation, fp8."""
