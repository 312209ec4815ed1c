"""The tarball directory: publishing into it, sending from it, and removing what nothing needs."""
