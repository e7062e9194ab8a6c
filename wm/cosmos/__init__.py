"""NVIDIA's Cosmos world foundation models in Flax: transformer, autoencoders, flow, training and sampling."""
