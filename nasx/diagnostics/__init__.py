"""Explain and debug one trained network: what it separates, confuses and bases decisions on."""
