"""Networks, their layers, and convolutions that are fast inside loops on a CPU."""
