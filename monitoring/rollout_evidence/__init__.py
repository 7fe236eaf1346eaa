"""What the stream tells of the two versions of a rollout: log, shadows and labels since the stage began, as `Evidence`."""
