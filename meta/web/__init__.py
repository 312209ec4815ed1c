"""The Flask application: ops-meta's routes, the REST API, and the metrics."""
