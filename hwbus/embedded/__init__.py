"""Everything on one machine, for an ordinary user: a broker, a control plane, simulated nodes."""
