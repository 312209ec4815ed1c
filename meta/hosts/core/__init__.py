"""The indexes that HostTable keeps under its lock, and the functions that read or change several of them at once."""
