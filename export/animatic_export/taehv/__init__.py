"""TAEHV's tiny video decoders in torch of our own: published weights in, exportable graphs out."""
