"""What only an SQLite database needs: its files' modes, and backups."""
