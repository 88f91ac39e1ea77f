"""How a network is computed: by torch, or by other runtimes after an export."""
