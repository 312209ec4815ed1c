"""A tarball from its URL to an unpacked directory: download, digest, members, extraction."""
