"""Which recorded figures the README and launch/records/README.md show, and under which words.

    python -m launch.records_page      # writes both again, in a second, on any machine

A figure is named as in launch/records/*.json. The numbers themselves are never written here.
"""

from dataclasses import dataclass

from configs.scope import SCOPE_TABLES

README = {
    "Controller learned in the model, playing the real game: points per hour": "return_real_policy_kabq",
    "The scripted expert, on the same hours": "return_real_expert_kabq",
    "No commands at all, on the same hours": "return_real_noop_kabq",
    "The controller's score: 0 for no commands, 1 for the expert": "score_real_policy_kabq",
    "KLAS: points per hour that prices tuned in the model add to the expert": "lift_over_expert_tuned_klas",
    "The controller's losses of separation per flight hour, whole hours": "loss_game_whole_per_h_policy_kabq",
    "Model: position error a minute ahead, unseen hours, median (nm)": "position_p50_nm_60s",
    "The same error when every aircraft flies straight on (nm)": "position_p50_nm_60s_constant_velocity",
    "Decisions per second of PPO in the model, one H200 GPU": "env_ppo_steps_per_s",
    "Decisions per second of the real game, one processor core": "decisions_per_s_klas",
}
"""The ten rows of the README's table: label -> figure."""

CARDS = {
    "model_card": {
        "The controller's score in the real game (no commands 0, the expert 1)": "score_real_policy_kabq",
        "The share of arrivals with time to land that it lands": "landed_share_policy_kabq",
        "It loses separation, per flight hour of whole hours": "loss_game_whole_per_h_policy_kabq",
        "... by the plain 3 nm and 1000 ft": "loss_raw_whole_per_h_policy_kabq",
        "It collides, per flight hour of whole hours": "collisions_whole_per_h_policy_kabq",
        "The model's position error after five minutes, worst twentieth (nm)": "position_p95_nm_300s",
        "The share of commands that the model follows as the game does": "action_following",
        "An imagined hour's return is off by, worst policy, KABQ": "hour_gap_kabq",
        "... KLAS": "hour_gap_klas",
        "... KSEA": "hour_gap_ksea",
        "Imagined losses of separation over real ones": "hour_losses_ratio",
        "Returns of policies in model and game agree, Pearson's r": "ranking_pearson",
        "The members' disagreement tells errors above half a mile, AUROC": "disagreement_auroc",
        "Cosmos modules equal the originals up to": "parity_max_abs",
        "Inputs that were spoilt on purpose": "fuzz_inputs",
        "... of which crashed, hung or were taken for whole": "fuzz_crashes",
    },
    "data_card": {
        "Airports of the game": "survey_enabled",
        "... of which everything is read": "survey_all_read",
        "Recorded hours that repeat to the bit": "replay_identical",
        "Faults put into page, browser and disk while recording": "faults_tried",
        "... that lost an acknowledged episode": "faults_lost",
    },
}
"""Assurance tables of the guides' cards: what is claimed -> the figure that is the evidence."""

ELSEWHERE = ("survey_aircraft_mean_", "survey_aircraft_most_", "survey_decisions_per_")
"""What figures begin with that launch/records/survey.md shows, a row for each airport."""


@dataclass(frozen=True)
class FigureTable:
    """One figure a row; `every` adds all figures whose names begin so and that have no row yet."""

    title: str
    caption: str
    rows: tuple[tuple[str, str], ...] = ()
    every: str | None = None


@dataclass(frozen=True)
class PolicyTable:
    """One policy a row, with all that an evaluation of it measured: (label, world, policy, place)."""

    title: str
    caption: str
    rows: tuple[tuple[str, str, str, str], ...]


CONTROLLERS = (
    ("no commands", "noop"),
    ("random commands", "random"),
    ("scripted expert", "expert"),
    ("shipped controller", "policy"),
    ("controller from a coarser clone and longer PPO", "policy_2"),
)
TUNED = ("expert with tuned prices", "tuned")
AIRPORTS = (
    ("KPDX, easy", "kpdx", True),
    ("KLAS, hard", "klas", True),
    ("KSEA, hard", "ksea", True),
    ("KMCI, beginner", "kmci", False),
    ("KAUS, easy", "kaus", False),
    ("ENGM, easy", "engm", False),
    ("KOKC, medium", "kokc", False),
    ("LROP, medium", "lrop", False),
    ("KSTL, medium", "kstl", False),
    ("RJAA, hard", "rjaa", False),
    ("KMIA, hard", "kmia", False),
)
"""Label, ICAO code, and whether random commands played there too."""


def _airport_rows() -> tuple[tuple[str, str, str, str], ...]:
    return tuple(
        (f"{label}: {words}", "real", policy, icao)
        for label, icao, with_random in AIRPORTS
        for words, policy in CONTROLLERS[:3]
        if with_random or policy != "random"
    )


def _error_rows() -> list[tuple[str, str]]:
    """Rows of position errors: of the model and, at the same horizon, of what it is compared with."""
    rows = []
    others = {"hand-written rules": "_rules", "flying straight on": "_constant_velocity"}
    others["fresh weights"] = "_reinitialised"
    horizons = {10: "ten seconds", 60: "a minute", 120: "two minutes", 300: "five minutes"}
    for seconds, later in horizons.items():
        for q, which in ((50, "median"), (95, "worst twentieth")):
            figure = f"position_p{q}_nm_{seconds}s"
            rows.append((f"after {later}, {which}", figure))
            rows += [(f"... {name}", figure + suffix) for name, suffix in others.items()]
    return rows


def _hour_rows() -> tuple[tuple[str, str], ...]:
    """Rows that compare whole hours, of the learned model and of the rules in its place."""
    learned = (
        ("largest gap at KABQ", "hour_gap_kabq"),
        ("largest gap at KLAS", "hour_gap_klas"),
        ("largest gap at KSEA", "hour_gap_ksea"),
        ("landed share, largest difference of all policies and airports", "hour_landed_difference"),
        ("the expert's busts an hour that the game does not have", "phantom_busts_per_h"),
        ("the expert's collisions an hour that the game does not have", "phantom_collisions_per_h"),
        ("losses of separation, imagined over real, all policies", "hour_losses_ratio"),
        ("returns of policies, imagined and real: Pearson's r", "ranking_pearson"),
        ("mean maximal rank violation of their order", "ranking_mmrv"),
    )
    rules = ((f"... {words}, hand-written rules", f"{name}_rules") for words, name in learned)
    members = tuple(
        (f"the expert's gap in the ensemble's worst member, {icao.upper()}", f"hour_gap_worst_member_{icao}")
        for icao in ("kabq", "klas", "ksea")
    )
    return (*(row for pair in zip(learned, rules, strict=True) for row in pair), *members)


TABLES: tuple[FigureTable | PolicyTable, ...] = (
    PolicyTable(
        "Controllers at KABQ in the real game",
        "Full hours from a cold start on test seeds. Points are the game's own, and -200 for each loss of "
        "separation and for each arrival that had time to land and did not. Score and headroom compare a "
        "controller with no commands and the expert on the same seeds; rates leave out the first 25 minutes.",
        tuple((words, "real", policy, "kabq") for words, policy in CONTROLLERS),
    ),
    PolicyTable(
        "The expert with prices tuned in the world model, KLAS, real game",
        "Sets of prices were compared in imagined hours (rl/data/tuned-klas lists them); the best makes it "
        "cost a point if an arrival has to be told to descend again.",
        tuple((words, "real", policy, "klas") for words, policy in (*CONTROLLERS[:1], CONTROLLERS[2], TUNED)),
    ),
    FigureTable(
        "... beside the expert, on the same seeds",
        "Differences and rates of the same hours.",
        (
            ("points an hour more than the expert", "lift_over_expert_tuned_klas"),
            ("losses per flight hour, whole hours", "loss_game_whole_per_h_tuned_klas"),
            ("... of the expert", "loss_game_whole_per_h_expert_klas"),
            ("commands per aircraft", "commands_per_aircraft_tuned_klas"),
            ("... of the expert", "commands_per_aircraft_expert_klas"),
        ),
    ),
    PolicyTable(
        "The same prices in one and a half times the traffic, real game",
        "Ten test hours an airport. Nothing was tuned at KABQ, nor in such traffic; at KLAS policies see 48 "
        "aircraft.",
        tuple(
            (f"{airport.upper()}: {words}", "real", policy, f"{airport}_traffic_1_5")
            for airport in ("kabq", "klas")
            for words, policy in (CONTROLLERS[2], TUNED)
        ),
    ),
    FigureTable(
        "What one other command would bring",
        "Imagined states of hours that the expert plays. Its command and five others are rolled out for ten "
        "minutes, eight times each on the same keys, before the expert goes on. The best is chosen in three "
        "members of the ensemble and judged in the fourth. Gains are points a state: those of separation and "
        "of the game's score, and how far all aircraft are on their way at the end.",
        tuple(
            (f"{label} at {airport.upper()}", f"one_command_{name}_{airport}")
            for airport in ("klas", "ksea")
            for label, name in (
                ("gain of the best command", "gain"),
                ("... what the members that chose it promised", "promised"),
                ("... of it: losses of separation", "gain_loss"),
                ("... the game's score", "gain_score"),
                ("... progress", "gain_ahead"),
            )
        ),
    ),
    PolicyTable(
        "The controllers at KABQ in the world model",
        "Imagined hours from cold starts.",
        tuple((words, "imagined", policy, "kabq") for words, policy in CONTROLLERS[:4]),
    ),
    FigureTable(
        "Imagined hours beside real ones",
        "The same policies play whole hours from cold starts, in the game and in the model; everything "
        "counts from the first second. A gap is the imagined return less the real one, over what the "
        "expert gains on no commands in the game; without a policy's name it is the largest of all "
        "policies. In rows of hand-written rules, wm/state/rules.py moves the aircraft. The real hours are "
        "few, so the intervals are wide.",
        _hour_rows(),
        every="hour_gap_",
    ),
    PolicyTable(
        "The scripted expert at other airports, real game",
        "Full hours from a cold start on test seeds; the expert was made at KABQ, KPDX, KLAS and KSEA.",
        _airport_rows(),
    ),
    FigureTable(
        "Position error of the world model",
        "Hours it has not seen, at KABQ, KLAS and KSEA, replayed under the recorded commands; aircraft "
        "inside the airspace with at least one command (nm). An aircraft removed more than 10 s early or "
        "late counts as 10 nm. Beside the model: the game's rules written by hand (wm/state/rules.py), every "
        "aircraft flies straight on, and the same network with fresh weights.",
        (*_error_rows(), ("off by more than a mile after five minutes, share", "off_1nm_300s")),
    ),
    FigureTable(
        "What the world model foresees",
        "The same hours. An event's chance within a minute is the share of plays of the members in which it "
        "happens; AUROC is the chance that one that happened was thought likelier than one that did not. "
        "Calibration leaves out what was never foreseen and did not happen. wm/state/foresight.py and "
        "launch/shared/foreseen.py define all of them.",
        (
            ("landings within a minute, AUROC", "landing_auroc"),
            ("hand-offs within a minute, AUROC", "handoff_auroc"),
            ("losses of separation within a minute, AUROC", "loss_auroc"),
            ("calibration error of these chances, the worst", "ece"),
            ("commands followed as in the game", "action_following"),
            ("errors above half a mile that the members' disagreement tells, AUROC", "disagreement_auroc"),
            ("rate of spawns, share off", "spawn_rate_error"),
            ("times between spawns, Kolmogorov-Smirnov distance", "spawn_ks"),
        ),
    ),
    FigureTable(
        "Speed of the simulator",
        "Decisions per second at KABQ with the GPU kernels (wm/sector/kernels.py), in 16,384 sectors of 32 "
        "aircraft, the environment alone in as many as are fastest. The interval is the fastest and the "
        "slowest run. The scaling and the first step were measured before a step left out the padded "
        "airspaces of other airports.",
        (
            ("environment alone, one GPU", "env_steps_per_s"),
            ("... with 20 aircraft", "env_steps_per_s_20"),
            ("... with 64 aircraft", "env_steps_per_s_64"),
            ("... with a policy's network", "env_policy_steps_per_s"),
            ("PPO with rollouts and updates, one GPU", "env_ppo_steps_per_s"),
            ("... with the shipped controller's network", "env_ppo_steps_per_s_shipped_network"),
            ("time of a step of the environment with 64 aircraft over that with 32", "cost_ratio_slots"),
            ("share of the least time that the card allows for a step", "roofline_share"),
            ("PPO on two GPUs over one, as many sectors each", "scaling_2_gpus"),
            ("... on four", "scaling_4_gpus"),
            ("PPO on two GPUs over one, as many sectors in all", "scaling_2_gpus_strong"),
            ("... on four", "scaling_4_gpus_strong"),
            ("first step of a program, nothing compiled before (s)", "first_step_cold_s"),
            ("... compiled by an earlier program (s)", "first_step_cached_s"),
        ),
    ),
    FigureTable(
        "Speed of the real game",
        "A full hour at KLAS; one page, its browser and the Python driver share one core. Processor time is "
        "in milliseconds per decision, by process.",
        (
            ("decisions per second", "decisions_per_s_klas"),
            ("... with a picture of every decision", "decisions_per_s_klas_frames"),
            ("... with nothing of the game's work left out", "decisions_per_s_klas_plain"),
            ("... through the gymnasium environment", "decisions_per_s_klas_environment"),
            ("two pages on two cores over one page on one core", "pages_2_speedup"),
            ("two recording workers over one", "workers_2_speedup"),
        ),
        every="decision_cpu_ms",
    ),
    FigureTable(
        "Repeating the real game",
        "Hours are played again from seed and commands in fresh browsers and compared to the bit.",
        (
            ("share of hours that repeat", "replay_identical"),
            ("... with nothing of the game's work left out", "replay_plain_identical"),
            ("share of hours with one changed command that differ", "replay_changed_command_differs"),
        ),
    ),
    FigureTable(
        "Lock-step and a browser's own timing",
        "The same hours in frames of 1/60 s less those in frames of 0.5 s, per hour.",
        tuple(
            (f"{words}, {who}", f"{name}_browser_timing_minus_lock_step_{policy}_kabq")
            for who, policy in (("no commands", "noop"), ("expert", "expert"))
            for words, name in (
                ("return (points)", "return"),
                ("the game's score (points)", "game_score"),
                ("landings", "landings"),
                ("losses of separation", "loss_game"),
                ("commands", "commands"),
                ("delay of an arrival (s)", "delay"),
            )
            if (policy, name) != ("noop", "delay")
        ),
    ),
    FigureTable(
        "Recordings that are cut off",
        "Recordings were killed at random moments and met faults put into page, browser and disk.",
        (
            ("acknowledged episodes that were lost", "episodes_lost"),
            ("kills that came after an acknowledged episode", "kills_after_an_acknowledged_episode"),
            ("kills in the middle of writing an episode", "kills_inside_a_store"),
        ),
        every="faults_",
    ),
    FigureTable(
        "Inputs that do not belong, and commands that are broken off",
        "Recordings, weights, checkpoints, configurations and answers of a page are spoilt at random and "
        "read; each must give the right data or one line of error. Commands are killed, run out of disk, or "
        "are given damaged inputs, and then finish. The page is the viewer's, of an hour at KSEA.",
        (
            ("spoilt inputs", "fuzz_inputs"),
            ("... that crashed, hung or were taken for whole", "fuzz_crashes"),
            ("faults of commands", "interruptions_tried"),
            ("... that lost something", "interruptions_lost"),
            ("viewer's page of an hour with 30 aircraft (MB)", "viewer_mb_hour_30_aircraft"),
            ("from a bare Debian to the demonstration's first picture (min)", "first_picture_min"),
            ("... to its first controller that lands aircraft (min)", "first_controller_min"),
            ("the notebook, whole, with the real game and without a GPU (min)", "notebook_min"),
        ),
    ),
    FigureTable(
        "Long recordings",
        "The plan `launch.record seed` makes 100 hours with a picture of every decision. The memory is that "
        "of a recording of two hours of real time, and what its last fifth needs more than its second.",
        (
            ("time of the plan (min)", "plan_seed_minutes"),
            ("size of its recordings (MB)", "plan_seed_mb"),
            ("its episodes", "plan_seed_episodes"),
            ("its hours of the game", "plan_seed_game_hours"),
            ("its faults", "plan_seed_faults"),
            ("memory (MB)", "soak_mb"),
            ("growth of the memory (MB)", "soak_growth_mb"),
            ("length of that recording (h)", "soak_hours"),
        ),
    ),
    FigureTable(
        "Airports of the game",
        "Which airports load and can be recorded. [survey.md](survey.md) has a row for each.",
        (
            ("airports that the game offers", "survey_enabled"),
            ("... that load", "survey_loaded"),
            ("... of which everything is read", "survey_all_read"),
        ),
    ),
    FigureTable(
        "Cosmos-Predict2.5-2B in Flax: cost",
        "Random weights of the real shapes, clips of 17 frames.",
        (
            ("training step of all weights, 256 x 256 (TFLOP/s)", "train_tflops_256"),
            ("... peak memory (GiB)", "peak_gib_256"),
            ("training step of all weights, 512 x 512 (TFLOP/s)", "train_tflops_512"),
            ("... peak memory (GiB)", "peak_gib_512"),
            ("adapters (LoRA), 256 x 256 (clips/s)", "lora_samples_per_s_256"),
            ("... peak memory (GiB)", "lora_peak_gib"),
            ("data parallel training on two GPUs over one", "scaling_2_gpus_cosmos"),
            ("frames per second, 512 x 512, 35 steps, with decoding", "fps_35_steps"),
            ("... without decoding", "fps_35_steps_latents"),
            ("frames per second, 4 steps, with decoding", "fps_4_steps"),
            ("... without decoding", "fps_4_steps_latents"),
            ("frames per second, 1 step, with decoding", "fps_1_step"),
            ("... without decoding", "fps_1_step_latents"),
            ("frames per second of decoding alone", "fps_decode"),
        ),
    ),
    FigureTable(
        "Cosmos: published weights",
        "Converting and exporting weights of the real size, and refusing damaged files.",
        (
            ("size of the weights (GiB)", "drill_weights_gib"),
            ("peak memory of conversion and export (GiB)", "drill_peak_gib"),
            ("... beyond the weights", "drill_beyond_weights_gib"),
            ("share of damaged files that were refused", "damaged_refused"),
            ("parameters of Predict2-2B", "params_predict2_2b"),
            ("parameters of Predict2.5-2B", "params_predict2p5_2b"),
            ("parameters of Predict1-7B", "params_7b"),
            ("parameters of the Wan autoencoder", "params_wan_vae"),
        ),
    ),
    FigureTable(
        "Cosmos: equal to diffusers",
        "Largest absolute difference of a module's output from diffusers' on the same random weights.",
        (("largest of all comparisons", "parity_max_abs"),),
        every="parity_max_abs_",
    ),
    *(FigureTable(*table) for table in SCOPE_TABLES),
    FigureTable(
        "Cosmos: a small model from scratch on moving shapes",
        "Unseen clips, pictures of 64 pixels. Position errors are those of a shape that obeys the actions "
        "(px). Solidity is the share of its proper area that a shape which nobody commands keeps.",
        (
            ("position error under the clip's own actions, 35 steps", "shapes_position_error_true_actions"),
            ("... under another clip's actions", "shapes_position_error_shuffled_actions"),
            ("... the second over the first", "shuffled_action_error_ratio_shapes"),
            ("... the autoencoder alone", "shapes_position_error_vae"),
            ("... 4 steps whose size the model learned", "shapes_position_error_4_learned"),
            ("... 4 plain steps", "shapes_position_error_4_plain"),
            ("... 1 learned step", "shapes_position_error_1_learned"),
            ("... 1 plain step", "shapes_position_error_1_plain"),
            ("solidity, 35 steps", "shapes_drifter_solidity_true_actions"),
            ("... the autoencoder alone", "shapes_drifter_solidity_vae"),
            ("... 1 learned step", "shapes_drifter_solidity_1_learned"),
            ("... 1 plain step", "shapes_drifter_solidity_1_plain"),
        ),
        every="shapes_",
    ),
)
