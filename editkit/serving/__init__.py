"""editkit for programs: the HTTP server, edits of whole manifests, and both on a cluster."""
