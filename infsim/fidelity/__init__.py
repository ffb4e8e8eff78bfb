"""Fidelity: recorded runs of real systems, simulated again and compared."""
