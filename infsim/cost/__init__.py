"""What it costs: latency, memory, energy, carbon, accuracy."""
