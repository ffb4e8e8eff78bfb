"""One experiment: the scenario language and the objects it describes."""
