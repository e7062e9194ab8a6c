"""What a sector is, for the real game and the model alike: traffic, airport, commands, separation, reward."""
