"""What a host sends to meta: heartbeats, and its enrolment."""
