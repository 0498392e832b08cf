"""Training pairs: records, datasets, buckets, batches, and latents on disk."""
