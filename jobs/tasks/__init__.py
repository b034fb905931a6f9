"""Tasks for online training: what makes their data, and rewards that are functions."""
