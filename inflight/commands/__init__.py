"""One file per command group: read arguments, call the package that does the work, print. Heavy imports are local."""
