"""What the stream tells of the two versions of a rollout, since its stage began, as `Evidence`."""
