"""Weight files in every format that people hold."""
