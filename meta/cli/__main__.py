"""`python -m meta.cli`: the same as the command `meta`."""

from meta.cli import main

if __name__ == "__main__":
    main()
