"""The lab: a whole cluster on one machine, whose nodes are real kernels with real LVM."""
