"""The log played again where no cluster is: from a file, forward and back, on a laptop."""
