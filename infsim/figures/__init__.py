"""What it looks like: one function, one figure."""
