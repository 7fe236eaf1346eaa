"""One file per group of sub-commands: read the arguments, call a room, print. Heavy imports stay inside functions."""
