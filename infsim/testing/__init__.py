"""Conformance kits for policies, a user's own included."""
