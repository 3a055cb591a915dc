"""Training of the dense head: targets, views, the loss, and its part of a step."""
