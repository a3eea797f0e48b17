"""Where and how to compute: devices, processes, random streams."""
