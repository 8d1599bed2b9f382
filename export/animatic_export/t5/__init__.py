"""The text encoders of video models, T5 v1.1 and umT5, and what turns prompts into their tokens."""
