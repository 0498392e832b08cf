"""The same tensors as the reference's, on small weights."""
