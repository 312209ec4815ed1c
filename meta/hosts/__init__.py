"""Observed state: every host in memory, with indexes for fast heartbeats and for questions about a million hosts."""
