"""Torch modules: operations, cells, skeletons. They know nothing of genes."""
