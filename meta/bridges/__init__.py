"""Bridges: heartbeats of other systems, translated into meta's own reports and desired states."""
