"""The default generators: no published weights, no GPU."""
