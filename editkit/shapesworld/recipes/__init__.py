"""Training recipes of the embedded backbone's parts."""
