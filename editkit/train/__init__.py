"""Training: one loop for all jobs, and the job that fine-tunes a method."""
