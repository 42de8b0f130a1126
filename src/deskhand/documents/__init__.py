"""What files say, read by processes that can do nothing else."""
