"""The host's side: a daemon that keeps every agent at the state meta desires."""

__version__ = "0.1.0"
