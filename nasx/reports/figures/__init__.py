"""Figures: plain data in, matplotlib figures out."""
