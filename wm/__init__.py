"""The definitions shared by game and model, and the learned simulator of openScope."""
