"""Search spaces: turn genotypes into networks and map all encodings of a network to one canonical genotype."""
