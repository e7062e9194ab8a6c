"""NVIDIA's Cosmos world foundation models in Flax.

    networks   transformers, autoencoders, action inputs, adapters, and the models' sizes; knows no other room
    training   what is minimised and by what, clips, a small world to try it on, and what a model costs
    sampling   drawing clips and continuing them; knows networks and training
    weights    published files, and models as this project keeps and exports them; knows networks
"""
