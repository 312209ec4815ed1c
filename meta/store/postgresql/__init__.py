"""Code that only PostgreSQL needs: checks of poolers, and a watchdog for a silent server."""
