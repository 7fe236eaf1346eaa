"""What is given away: distributions, the manual page, and the check of both. `python -m deploy.release --help`."""
