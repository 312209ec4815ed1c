"""`python -m updater.cli`: the same as the command `updater`."""

from updater.cli.main import main

if __name__ == "__main__":
    main(prog_name="updater")
