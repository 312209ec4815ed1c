"""The command `updater`: `main` has the daemon's commands, `host_commands` those for a person on this host."""
