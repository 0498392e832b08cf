"""Training: a loop for everything that trains, and the jobs that it runs."""
