"""Demos: the page of `editkit demo`, and scripts such as the one behind `make demo`."""
