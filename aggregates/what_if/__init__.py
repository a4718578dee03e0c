"""What would follow: nodes that do as they are told, mishaps that happen to them, and the sums."""
