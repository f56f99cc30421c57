"""Is a match true? By weights, by nulls, by what the model computes."""
