"""Faults at every point: each command of a fixed workload is lost, cut off, late or cancelled, one at a time."""
