"""The quickstart: a small made-up language, its ground-truth judge, and the whole line on it, from data to a guarded service."""
