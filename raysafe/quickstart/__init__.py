"""The quickstart: a small made-up language, its ground-truth judge, and the whole line from data to service on it."""
