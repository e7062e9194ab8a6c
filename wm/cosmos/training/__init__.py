"""Training Cosmos models: objectives, optimiser, data, cost."""
