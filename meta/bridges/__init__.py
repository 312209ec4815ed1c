"""Bridges: they translate heartbeats of other systems into meta's reports, and desired state into those systems' answers."""
