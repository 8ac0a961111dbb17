"""Steps on the way from measured points to a cloud: the crop, the voxel grid. Their order is ../clouds.py's."""
