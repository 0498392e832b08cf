"""The server and batch edits."""
