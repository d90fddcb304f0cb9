"""Layout: what TensorFlow Datasets has prepared."""
