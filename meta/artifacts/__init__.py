"""The tarball directory: publishing files, sending them, and removing those that nothing needs."""
