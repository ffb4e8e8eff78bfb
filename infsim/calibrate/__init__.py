"""Where costs come from: measurements and fits."""
