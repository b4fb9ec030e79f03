"""How the embedded checkpoints were made: one loop, one export, one module a network."""
