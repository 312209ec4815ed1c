"""The Flask application: ops-meta's routes and the REST API below one roof, and what Prometheus asks for."""
