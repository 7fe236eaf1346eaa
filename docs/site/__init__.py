"""The site of the documentation: `make docs`. Standard library only: it runs in the environment of `docs.lock`."""
