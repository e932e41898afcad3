"""The commands: arguments, files, standard streams and exit codes."""
