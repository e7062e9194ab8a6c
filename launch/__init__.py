"""Commands: the only code that knows argv, devices, progress bars and run folders."""
