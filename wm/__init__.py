"""World models of openScope: the sector's definitions, the fast simulator, the pixel models, their store."""
