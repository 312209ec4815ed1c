"""The migrations that create and change the tables, in order. A released one is never edited."""
