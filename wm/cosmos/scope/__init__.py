"""Cosmos on openScope: recorded pictures of the scope, a model that draws them, a reader of what is drawn."""
