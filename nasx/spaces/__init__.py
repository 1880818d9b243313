"""Search spaces: what a genotype means, and which genotypes are the same network."""
