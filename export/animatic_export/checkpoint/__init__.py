"""Reading published checkpoints: where they lie, what they hold, LoRAs into them, their licence.

`source` finds or fetches the files, `tensors` opens them without loading them, `digest` hashes
them, `adapter` reads a LoRA, `merge` adds it, and `licence` says what is known of who may use it.
"""
