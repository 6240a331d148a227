"""The pages of the site that code writes, what is copied for it, and what is checked of it."""
