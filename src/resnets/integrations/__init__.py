"""The backbone in the shapes that other frameworks expect; none of them is imported."""
