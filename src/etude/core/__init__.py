"""Values that every other room uses: state, events, intervals, random state, outputs."""
