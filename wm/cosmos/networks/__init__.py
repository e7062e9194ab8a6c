"""Networks of NVIDIA Cosmos in Flax: transformers, autoencoders, action inputs, adapters, sizes."""
