"""Keras checkpoints: the three formats, and which layer of a model is which module of ours."""
