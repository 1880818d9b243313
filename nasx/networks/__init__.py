"""Torch modules of the networks: operations, cells, skeletons. Independent of genotypes."""
