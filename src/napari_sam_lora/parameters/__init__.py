"""The parameters of the program: each is described once, for Python, files, the command line, forms and pages."""
