"""The fast simulator: known kinematics, a learned autopilot, learned spawns, as a gymnax environment."""
