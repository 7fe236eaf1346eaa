"""The shadow: the other version of a rollout answers the same requests, in a child process and to nobody."""
