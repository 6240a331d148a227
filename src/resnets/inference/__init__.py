"""Answers of any model, by whatever computes: one by one, or of whole folders."""
