"""LTX-Video's networks in torch of our own: published weights go in, exportable graphs come out."""
