"""Training data: samples, splits, crops, augmentation, and simulated prompts."""
