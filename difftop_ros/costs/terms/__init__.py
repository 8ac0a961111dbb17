"""Costs beside those of collision, speed and height: one file for each thing they are about."""
