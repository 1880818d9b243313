"""Datasets: readers of published formats and of own images, splits, augmentation and batches."""
