"""The Faust stream processor: requests in; results, logs and dead letters out."""
