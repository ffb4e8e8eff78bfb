"""Steps of llama.cpp, measured as it serves requests on one thread."""
