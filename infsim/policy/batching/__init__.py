"""Which prompts enter an iteration."""
