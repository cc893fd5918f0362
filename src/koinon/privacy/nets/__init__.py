"""Neural networks on secret rows: training, and answering."""
