"""How the embedded checkpoints were made: one loop and one export, a module for each network, and their cards."""
