"""Turns a tarball's URL into an unpacked directory: download, digest check, extraction."""
