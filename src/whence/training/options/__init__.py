"""Options of trainings: frozen values, one file a branch. Nothing here computes; nothing here needs
torch."""
