"""Which operators go to which node."""
