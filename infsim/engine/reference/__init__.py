"""The slow, obvious engine: one event per iteration and hop, everything recounted when asked.

It follows ``docs/explanation/engine.md`` line by line and shares no rule with the fast engine,
which is tested to be equal to it.
"""

from infsim.engine.reference.run import simulate_reference

__all__ = ["simulate_reference"]
