"""Building blocks of every monitoring process: start-up, consuming, retries and metrics."""
