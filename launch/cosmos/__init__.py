"""The verbs of `python -m launch.cosmos`, and what several of them share.

Verbs are listed in `launch.cosmos.__main__.VERBS`, and each is the module of its name: info, convert,
finetune, generate, export, shapes, bench, drill. The other modules are parts of verbs and cannot be run:

    hub               downloads of published weights, for convert
    run               what a fine-tuning run is made of, for finetune
    latents           clips encoded once, for finetune and shapes
    samples           how a run stands and what it draws, for finetune and shapes
    shapes_further    further runs of shapes
    generation_speed  frames per second, for bench
"""
