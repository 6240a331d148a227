"""Plain data from files that may come from anyone: JSON and YAML, within limits, checked."""
