"""Layout: BigEarthNet in its forms."""
