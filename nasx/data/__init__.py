"""Datasets: readers of published formats and of users' images, splits, augmentation and batches."""
