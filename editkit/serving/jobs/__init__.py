"""Edits of whole manifests: planned in fixed batches, logged as they are made, resumed after a kill."""
