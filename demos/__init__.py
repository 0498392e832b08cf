"""Programs that show editkit: the page of `editkit demo`, and the scripts behind `make demo`."""
