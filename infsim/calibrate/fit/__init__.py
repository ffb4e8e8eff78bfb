"""Fits: kernel tables become the coefficients that iterations are priced with."""
