"""The requests of a host to meta: heartbeats and enrolment."""
