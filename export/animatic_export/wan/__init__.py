"""Wan 2.1's networks in torch of our own: published weights go in, exportable graphs come out."""
