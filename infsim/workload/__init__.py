"""What is asked: requests, traces, arrivals, lengths, sessions."""
