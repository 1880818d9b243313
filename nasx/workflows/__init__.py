"""Work that combines several packages: search, final training, fine-tuning, debugging of any model."""
