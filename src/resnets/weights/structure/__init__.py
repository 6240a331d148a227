"""Which tensor of a file is which of a residual network, by order and shapes."""
