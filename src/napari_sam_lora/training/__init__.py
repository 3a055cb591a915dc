"""Fine-tuning: training data, optimisation, and the verdict on the adapter."""
