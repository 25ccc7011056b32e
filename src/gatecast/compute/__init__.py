"""Who does the work: cores and clusters, what waits on disk, and how long it will take."""
