"""Edits in a row, kept on disk, and edits made again."""
