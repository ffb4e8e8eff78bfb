"""Many experiments: replications and comparisons."""
