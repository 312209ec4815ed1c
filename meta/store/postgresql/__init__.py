"""What only a PostgreSQL needs: what a pooler breaks, and a watch over a silent server."""
