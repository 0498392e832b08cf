"""Training pairs: records, where they come from, and their latents on disk."""
