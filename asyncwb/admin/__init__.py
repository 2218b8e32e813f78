"""For operators: inspecting a namespace, repairing it, and the checks of `asyncwb doctor`."""
