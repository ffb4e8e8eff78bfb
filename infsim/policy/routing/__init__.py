"""Which replica or path serves a request."""
