"""Fast reloads in development: a process that holds the installed packages, and forks of it that import the rest."""
