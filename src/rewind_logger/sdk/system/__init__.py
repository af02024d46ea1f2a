"""How the process and its machine are used, as rows of the runs that are open."""
