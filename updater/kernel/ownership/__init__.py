"""Whose a process is: `owner` weighs `evidence`, with `other_agents` and what is `interpreted`."""
