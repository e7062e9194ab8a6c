"""Controllers: scripted and learned policies, PPO, evaluation. Knows the gymnax interface, not the model."""
