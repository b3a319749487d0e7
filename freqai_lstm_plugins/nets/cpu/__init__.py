"""How recurrent layers run on a CPU."""
