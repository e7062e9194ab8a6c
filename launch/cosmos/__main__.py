"""NVIDIA Cosmos: convert, inspect, fine-tune, generate, time.

    python -m launch.cosmos info --model predict2.5-2b-action
    python -m launch.cosmos VERB --help

Every verb is a module of its own, launch/cosmos/VERB.py, imported when it is asked for.
"""

import importlib
import os
import sys

from launch.shared import runs

VERBS = {
    "info": "parameters, memory, operations, expected speed of a model, and the training plan that fits",
    "convert": "read published weights and store them as checkpoints of ours",
    "finetune": "train a model, whole or by adapters, on a folder of clips with actions",
    "generate": "continue a picture or video under given actions into an mp4, chunk by chunk",
    "export": "write a converted or fine-tuned model as safetensors that diffusers loads",
    "shapes": "learn a small world of moving shapes from scratch, and measure that its actions are obeyed",
    "bench": "time training steps and generation of a model with random weights",
    "scope_pack": "make hours of pictures and commands from recordings of the real game",
    "scope_train": "learn openScope's pictures: an autoencoder, a reader, a model that draws what comes next",
    "scope_judge": "measure these on test hours: round trip, reading, drawn windows against recorded ones",
    "drill": "convert, export and damage files of a published model's full size, with random numbers in them",
}
MOVED = {"parity": "python -m tests.wm.cosmos.parity, in a clone of the repository"}


def main(argv: list[str] | None = None) -> None:
    """Do what the first word says with the others."""
    argv = sys.argv[1:] if argv is None else argv
    # Left alone jax takes three quarters of a GPU's memory; these models want nearly all of it.
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.95")
    if argv and argv[0] in VERBS:
        importlib.import_module(f"launch.cosmos.{argv[0]}").main(argv[1:])
        return
    lines = [f"    {verb:11s} {line}" for verb, line in VERBS.items()]
    if argv and argv[0] in ("-h", "--help"):
        print("\n".join([__doc__.strip(), "", *lines]))
        return
    if argv and argv[0] in MOVED:
        runs.fail(f"the verb {argv[0]} is now {MOVED[argv[0]]}", 2)
    named = f"no verb {argv[0]!r}" if argv else "name a verb"
    runs.fail(f"{named}: {', '.join(VERBS)} (python -m launch.cosmos --help says what they do)", 2)


if __name__ == "__main__":
    main()
