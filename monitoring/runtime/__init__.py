"""Building blocks of every monitoring process: start-up, consuming, retries, lag and metrics."""
