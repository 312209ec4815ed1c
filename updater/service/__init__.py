"""Shared by updater and meta as services: readiness, Ctrl-C, ports in use, and the refusal of foreign web pages."""
