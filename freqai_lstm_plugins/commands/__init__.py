"""What `freqai-lstm` can do: one file a command, each with one plain function of its name."""
