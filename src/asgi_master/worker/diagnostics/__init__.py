"""What a worker does at this moment: which code runs, where tasks wait, for which request, and for how long."""
