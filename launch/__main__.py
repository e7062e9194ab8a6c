"""Every command of the project under one name, from any folder.

    openscope-wm record --out recordings --episodes 20

does what `python -m launch.record` does. `python -m` looks into the working directory first, so that a folder
of that name there, such as configs/, hides the project's own; this finds the installed ones.
"""

import runpy
import sys

COMMANDS = {
    "record": "record hours of the real game",
    "validate": "read every record of a data set",
    "coverage": "what recordings have seen, and what not",
    "export": "pack recordings, unpack them, film them",
    "view": "play a recorded or evaluated episode on a radar scope, as one HTML file",
    "survey": "try every airport of the game",
    "check_game": "whether the game repeats, how fast it is, what its recorder survives",
    "train_wm": "learn the simulator from recordings",
    "eval_wm": "judge a simulator on hours it has not seen",
    "train_ppo": "train a controller in the simulator",
    "rollouts": "what a single other command than the expert's would bring in the simulator",
    "tune_expert": "tune the expert's prices to an airport in the simulator",
    "check_training": "whether training that is killed goes on to the same end",
    "check_faults": "whether hostile inputs are refused, and broken runs lose nothing",
    "eval_policy": "let controllers play the real game or the simulator",
    "bench": "simulated decisions per second",
    "cosmos": "NVIDIA Cosmos: convert, fine-tune, generate",
    "demo": "the whole chain, small",
    "records_page": "write the pages of recorded figures",
    "on_hosts": "run a command on several hosts at once",
}


def main() -> None:
    """Be the command that the first word names."""
    asked = sys.argv[1].replace("-", "_") if len(sys.argv) > 1 else None
    if asked not in COMMANDS:
        listed = "\n".join(f"    {name:14s} {line}" for name, line in COMMANDS.items())
        text = f"openscope-wm COMMAND ...; each has --help\n\n{listed}"
        if asked is None or asked in ("__help", "_h"):
            print(text)
            return
        print(f"error: no command {sys.argv[1]!r}: {', '.join(COMMANDS)}", file=sys.stderr)
        raise SystemExit(2)
    del sys.argv[1]
    # What a process of its own would do: workers that a command starts find it again by its module's name.
    runpy.run_module(f"launch.{asked}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
