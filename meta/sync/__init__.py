"""Keeps memory and database equal: hosts are written behind the heartbeats, other metas are followed, old data is deleted."""
