"""Scorers: how far apart a trained network holds its classes inside."""
