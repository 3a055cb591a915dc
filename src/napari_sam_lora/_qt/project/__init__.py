"""Save, open and restore projects of a viewer."""
