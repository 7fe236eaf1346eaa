"""The archive: the prediction log, labels and calls of the API in a SQL database."""
