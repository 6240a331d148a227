"""File formats of checkpoints: bytes in, plain data out; nothing in a file is ever run."""
