"""The hot path: a heartbeat's bytes to the reply's bytes, without Flask and without the database."""
