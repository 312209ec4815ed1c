"""Makes the package that hosts get. Needs a checkout, pip and an index; nothing of it runs on a host but bootstrap/."""
