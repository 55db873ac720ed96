"""How the processes of a run share its work: one file a strategy behind one protocol."""
