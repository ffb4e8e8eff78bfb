"""Where the figures of a network come from: measured matrices, distances, graphs, access lines."""
