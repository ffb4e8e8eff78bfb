"""What is served: architectures, operator graphs, compression formats, the catalogue."""
