"""Named programs: what a study may ask a committee to compute, each with a hash that pins its meaning."""
