"""Nodes around simulators; each simulator has a folder."""
