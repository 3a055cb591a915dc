"""Read and write images, labels, prompts, data sets and adapters as files."""
