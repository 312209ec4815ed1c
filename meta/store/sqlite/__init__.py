"""Code that only an SQLite database needs: the modes of its files, and backups."""
