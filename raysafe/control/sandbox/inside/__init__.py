"""What runs inside a sandbox: the standard library alone, for nothing else of RaySafe is there."""
