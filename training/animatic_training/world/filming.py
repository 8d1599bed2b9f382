"""The words of how a shot is filmed: camera moves, shot sizes, angles and lenses."""

from __future__ import annotations

from typing import Final

from animatic_training.world.words import Forms, Words

CAMERAS: Final[dict[str, Forms]] = {
    "static": Forms(
        Words(("the camera does not move", "the camera stays still", "the camera is locked off",
               "the camera is static"), ("the camera is on a tripod",)),
        Words(("static camera", "locked-off shot", "static shot", "fixed camera"),
              ("tripod shot",)),
    ),
    "pan_left": Forms(
        Words(("the camera pans left", "the camera pans to the left"), ("the camera swings left",)),
        Words(("pan left", "camera panning to the left", "slow pan left"),
              ("camera swinging left",)),
    ),
    "pan_right": Forms(
        Words(("the camera pans right", "the camera pans to the right"),
              ("the camera swings right",)),
        Words(("pan right", "camera panning to the right", "slow pan right"),
              ("camera swinging right",)),
    ),
    "dolly_in": Forms(
        Words(("the camera pushes in", "the camera dollies in", "the camera moves closer"),
              ("the camera creeps nearer",)),
        Words(("dolly in", "slow dolly in", "push in"), ("camera creeping nearer",)),
    ),
    "dolly_out": Forms(
        Words(("the camera pulls back", "the camera dollies out", "the camera moves away"),
              ("the camera retreats",)),
        Words(("dolly out", "slow dolly out", "pull out", "pull back"), ("camera retreating",)),
    ),
    "crane_up": Forms(
        Words(("the camera cranes up", "the camera rises on a crane"), ("the camera jibs up",)),
        Words(("crane up", "crane shot rising", "boom up"), ("jib up",)),
    ),
    "crane_down": Forms(
        Words(("the camera cranes down", "the camera comes down on a crane"),
              ("the camera jibs down",)),
        Words(("crane down", "crane shot going down", "boom down"), ("jib down",)),
    ),
    "tilt_up": Forms(
        Words(("the camera tilts up", "the camera tilts upwards"), ("the camera tips up",)),
        Words(("tilt up", "camera tilting up", "slow tilt up"), ("camera tipping up",)),
    ),
    "tilt_down": Forms(
        Words(("the camera tilts down", "the camera tilts downwards"), ("the camera tips down",)),
        Words(("tilt down", "camera tilting down", "slow tilt down"), ("camera tipping down",)),
    ),
    "truck_left": Forms(
        Words(("the camera trucks left", "the camera slides to the left"),
              ("the camera crabs left",)),
        Words(("truck left", "camera sliding left", "lateral move left"), ("crab left",)),
    ),
    "truck_right": Forms(
        Words(("the camera trucks right", "the camera slides to the right"),
              ("the camera crabs right",)),
        Words(("truck right", "camera sliding right", "lateral move right"), ("crab right",)),
    ),
    "orbit": Forms(
        Words(("the camera orbits around {it}", "the camera circles around {it}",
               "the camera moves around {it} in an arc"), ("the camera revolves around {it}",)),
        Words(("orbit shot", "orbiting camera", "arc shot"), ("revolving camera",)),
    ),
    "zoom_in": Forms(
        Words(("the camera zooms in", "the lens zooms in"), ("the lens punches in",)),
        Words(("zoom in", "slow zoom in", "zooming in"), ("punch in",)),
    ),
    "zoom_out": Forms(
        Words(("the camera zooms out", "the lens zooms out"), ("the lens widens out",)),
        Words(("zoom out", "slow zoom out", "zooming out"), ("widen out",)),
    ),
    "tracking": Forms(
        Words(("the camera tracks along with {it}", "the camera follows along",
               "the camera moves with {it}"), ("the camera keeps pace with {it}",)),
        Words(("tracking shot", "follow shot", "camera tracking alongside"),
              ("travelling shot",)),
    ),
    "handheld": Forms(
        Words(("the camera is handheld", "the handheld camera shakes a little"),
              ("the camera wobbles",)),
        Words(("handheld", "handheld camera", "shaky handheld camera"), ("wobbly camera",)),
    ),
    "whip_pan": Forms(
        Words(("the camera whips around to {it}", "the camera whip-pans to {it}"),
              ("the camera swishes over to {it}",)),
        Words(("whip pan", "fast whip pan", "quick whip pan"), ("swish pan",)),
    ),
}  # fmt: skip
SIZES: Final[dict[str, Forms]] = {
    "close": Forms(
        Words(("close-up", "close shot", "close view", "closeup"), ("tight shot",)),
        Words(("CU", "close-up"), ("tight shot",)),
    ),
    "medium": Forms(
        Words(
            ("medium shot", "mid shot", "medium view", "medium composition"), ("mid-range shot",)
        ),
        Words(("MS", "medium shot"), ("mid-range shot",)),
    ),
    "wide": Forms(
        Words(("wide shot", "wide view", "wide composition", "full wide shot"), ("long shot",)),
        Words(("WS", "wide shot"), ("LS",)),
    ),
    "extreme_close": Forms(
        Words(
            ("extreme close-up", "very close shot", "extreme close view", "detail shot"),
            ("macro shot",),
        ),
        Words(("ECU", "XCU", "extreme close-up"), ("macro shot",)),
    ),
    "extreme_wide": Forms(
        Words(
            ("extreme wide shot", "very wide shot", "extreme wide view", "distant wide shot"),
            ("vista shot",),
        ),
        Words(("EWS", "XWS", "extreme wide shot"), ("vista shot",)),
    ),
}
ANGLES: Final[dict[str, Forms]] = {
    "eye_level": Forms(
        Words(("at eye level", "from eye level", "from eye height"), ("from head height",)),
        Words(("eye level", "eye-level shot", "eye height"), ("head height",)),
    ),
    "low": Forms(
        Words(
            ("from a low angle", "from below", "from near the ground", "from down low"),
            ("from a worm's-eye view",),
        ),
        Words(("low angle", "low-angle shot", "from below"), ("worm's-eye view",)),
    ),
    "high": Forms(
        Words(
            ("from a high angle", "from a high vantage point", "from a raised camera",
             "from high up"),
            ("from an elevated viewpoint",),
        ),
        Words(("high angle", "high-angle shot", "raised camera"), ("elevated viewpoint",)),
    ),
    "overhead": Forms(
        Words(
            ("from overhead", "from directly above", "from straight above", "straight from above"),
            ("from a god's-eye view",),
        ),
        Words(("overhead", "top-down", "overhead shot"), ("god's-eye view",)),
    ),
}  # fmt: skip
LENSES: Final[dict[str, Forms]] = {
    "normal": Forms(
        Words(("on a normal lens", "on a standard lens", "on a 35mm lens"), ("on a 50mm lens",)),
        Words(("normal lens", "standard lens", "35mm"), ("50mm",)),
    ),
    "wide_angle": Forms(
        Words(("on a wide-angle lens", "on a short lens", "on an ultra-wide lens",
               "on a 16mm lens"), ("on a 12mm lens",)),
        Words(("wide-angle lens", "ultra-wide lens", "16mm"), ("12mm",)),
    ),
    "telephoto": Forms(
        Words(("on a telephoto lens", "on a long lens", "on a tele lens", "on a 135mm lens"),
              ("on a 200mm lens",)),
        Words(("telephoto lens", "long lens", "135mm"), ("200mm",)),
    ),
}  # fmt: skip
