"""The door: one event loop that takes all connections, answers the hot paths itself, and hands the rest to the framework."""
