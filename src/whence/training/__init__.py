"""Training: batches, augmentation, losses and one explicit loop. What to train with which values is
said by `whence.recipes`."""
