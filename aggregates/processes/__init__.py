"""Operations as pure processes: what has happened says which command is due next."""
