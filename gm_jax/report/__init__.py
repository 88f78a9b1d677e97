"""Reports: what a run or a table came to, as one HTML file that needs nothing else."""
