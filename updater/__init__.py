"""The host's side: a daemon that keeps every agent in the state that meta desires."""

__version__ = "0.1.0"
