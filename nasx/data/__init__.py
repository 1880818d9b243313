"""Datasets: one reader per published on-disk format, splits, augmentation and batching."""
