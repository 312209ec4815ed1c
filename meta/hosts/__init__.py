"""Observed state: every host in memory, with indexes that answer a heartbeat and a question about a million hosts."""
