"""Virtual boards: devices that run on this machine and are reached as boards are, over ssh."""
