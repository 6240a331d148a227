"""From batches to a run folder: recipe, schedule, step, loop, state."""
