"""Weights in and out: other ViT files into our encoder, our encoder into files for others."""
