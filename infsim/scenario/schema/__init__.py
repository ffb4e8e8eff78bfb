"""The schema of scenarios, one file per topic."""
