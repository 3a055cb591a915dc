"""Follow objects through a stack, plane by plane."""
