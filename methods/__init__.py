"""Methods: one folder per paper. The registry finds them by name; they never import each other."""
