"""Pretrained networks as the frozen first part of searched networks."""
