"""The messages between updater and meta: their types and limits, and descriptions of invalid ones. Pure."""
