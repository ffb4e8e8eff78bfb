"""Microbenchmarks: what kernels take on the machine at hand."""
