"""Encoder bundles, embeddings, indexes, search, metrics and evaluation; knows no trainer."""
