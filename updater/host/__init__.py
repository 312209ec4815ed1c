"""The host: its configuration, its agents with their control scripts and memories, and operator requests."""
