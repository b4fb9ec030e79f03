"""`nn.Module`s only: layers and parameter names. No files, seeds, URLs or metrics."""
