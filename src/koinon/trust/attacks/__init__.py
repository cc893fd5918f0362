"""Black-box attacks on tabular models, inside the public ranges scaled to [0, 1]. One attack alone is no evidence."""
