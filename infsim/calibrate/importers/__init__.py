"""Kernel tables of other projects, read into the schema of `infsim.calibrate.table`."""
