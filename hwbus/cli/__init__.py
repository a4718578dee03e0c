"""The operator's hand: says what is wished, shows what is, and ends with a code that means it."""
