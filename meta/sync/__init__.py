"""Memory and database kept together: what is written behind the heartbeats, what other metas wrote, and housekeeping."""
