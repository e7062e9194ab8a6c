"""The fast simulator: known kinematics, a learned autopilot, random spawns, as a gymnax environment."""
