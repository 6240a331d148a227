"""Published numbers, as data, and what it takes to reach them again."""
