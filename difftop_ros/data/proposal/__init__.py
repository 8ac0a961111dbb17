"""A contract proposed from what a bag or a running graph shows; what nobody can see is marked for a person's eyes.

offer.py collects, urdf.py reads limits, cameras.py and write.py make the YAML.
"""
