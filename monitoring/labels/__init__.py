"""Labels: what the true answers were, joined to the log of requests, and how good live answers are by them.

`reports` reads records of the topic of labels and decides between labels of one request; `join` brings them into the
log's documents (`store`), or lets them wait (`waiting`) until their request is there; `quality` measures; `joiner` is
the process.
"""
