"""Types and functions without any dependency on the rest of the package."""
