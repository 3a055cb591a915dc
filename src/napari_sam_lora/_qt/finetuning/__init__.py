"""Fine-tune panel: training set, settings, the run, and the verdict on its adapter."""
