"""Weights and what travels with them."""
