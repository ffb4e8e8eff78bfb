"""Who decides: what a policy sees and answers, and the policies that ship."""
