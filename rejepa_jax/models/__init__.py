"""Vision Transformer encoder and predictor, as Flax NNX modules used as plain pytrees."""
