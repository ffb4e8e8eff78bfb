"""What happens: the discrete-event engine."""
