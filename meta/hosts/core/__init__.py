"""What HostTable keeps under its lock: the indexes, and all that reads and changes several of them at once."""
