"""The Open Inference Protocol, version 2, over HTTP: tensors in, tensors out, on the same stream as everything else."""
