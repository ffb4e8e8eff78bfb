"""What happens to work that was lost."""
