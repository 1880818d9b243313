"""Torch modules: operations, cells, skeletons. Independent of genotypes."""
