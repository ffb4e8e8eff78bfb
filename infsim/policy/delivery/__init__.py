"""Where a request is served, and whether its answer is good enough."""
