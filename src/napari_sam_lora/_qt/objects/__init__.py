"""List, classify, approve and edit the objects of a Labels layer."""
