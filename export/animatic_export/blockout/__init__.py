"""Blockout's networks, in torch: what the trainer trains and the exporter exports."""
