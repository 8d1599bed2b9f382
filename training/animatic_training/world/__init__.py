"""The procedural world Blockout learns from: attributes -> scene -> pixels, attributes -> caption.

`attributes` names what a shot may contain, `scene` turns attributes and a random stream into
plain arrays of solids, light and camera, `raycast` draws those arrays on a CPU core and
`raycast_torch` draws many of them at once on whatever device torch has, `captions` writes the
sentence a person would have typed.
"""
