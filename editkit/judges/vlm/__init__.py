"""Judges that are vision-language models."""
