"""The subcommands of `meta`, a module for each topic."""
