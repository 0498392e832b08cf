"""One edit, from a request to its result."""
