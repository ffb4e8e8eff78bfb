"""Observed availability: traces read, described, fitted, and compared with what is made."""
