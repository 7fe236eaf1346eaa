"""What every process here does alike: signals, consuming, waiting for a broker or a search node that is away."""
