"""The commands that the README and the guides show are understood, and their Python runs."""

import importlib
import re
import shlex
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import cli
from tests.test_api_examples import EXAMPLES

ROOT = Path(__file__).parents[2]
GUIDES = sorted((ROOT / "launch" / "guides").glob("*.md"))
PAGES = [ROOT / "README.md", *GUIDES, ROOT / ".github/CONTRIBUTING.md"]


class Understood(Exception):
    """The command line was parsed."""


def blocks(page: Path, language: str = "") -> list[str]:
    """The fenced blocks of a page in a language."""
    found, inside = [], None
    for line in page.read_text(encoding="utf-8").splitlines():
        fence = re.fullmatch(r" *```(\w*)", line)
        if fence and inside is None:
            inside, lines = fence[1], []
        elif fence:
            found += ["\n".join(lines)] if inside == language else []
            inside = None
        elif inside is not None:
            lines.append(line)
    return found


def commands() -> list:
    """Every command that a page shows in a block, with its continuation lines."""
    found = []
    for page in PAGES:
        for block in blocks(page):
            for line in map(str.strip, block.replace("\\\n", " ").splitlines()):
                if line.startswith("python -m launch."):
                    found.append(pytest.param(line, id=f"{page.stem}: {line[17:60]}"))
    return found


@pytest.mark.parametrize("line", commands())
def test_a_command_on_a_page_is_understood(line, monkeypatch):
    name, *arguments = shlex.split(line, comments=True)[2:]
    if "--help" in arguments:
        assert importlib.util.find_spec(name)
        return
    module = importlib.import_module(name)

    def then_stop(parse):
        def parsed(*args, **named):
            parse(*args, **named)
            raise Understood

        return parsed

    for function in ("parse", "parse_preset"):
        monkeypatch.setattr(cli, function, then_stop(getattr(cli, function)))
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    with pytest.raises(Understood):
        module.main(*([arguments] if module.main.__code__.co_argcount else []))


def test_there_are_commands_to_try():
    assert len(commands()) > 15


def test_the_policy_of_the_guide_acts():
    (code,) = blocks(ROOT / "launch" / "guides" / "policy.md", "python")
    names = {}
    exec(code, names)  # our own page
    policy = names["idle"]
    seen = {"aircraft_mask": jnp.zeros(7, bool)}
    action, memory = jax.jit(policy.act)(None, policy.init(jax.random.key(0)), seen, jax.random.key(1))
    np.testing.assert_array_equal(action, [7, 0, 0, 0, 0])
    assert memory == ()


@pytest.mark.slow
def test_the_loop_of_the_guide_learns():
    example, loop = blocks(ROOT / "launch" / "guides" / "learner.md", "python")
    assert example == EXAMPLES["learn with Stable-Baselines3"].strip()  # which runs where that is installed
    left = {}
    exec(loop, left)  # our own page
    assert left["losses"].shape == left["rewards"].shape == (left["UPDATES"],)
    assert np.isfinite(left["losses"]).all()
    changed = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), left["before"], left["after"])
    assert min(jax.tree.leaves(changed)) > 0.0
    assert max(jax.tree.leaves(changed)) < 0.01  # two steps of Adam at 3e-4


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_files_that_a_page_names_exist(page):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)\)", text)
    named = re.findall(r"`((?:wm|rl|collect|configs|launch|tests)/[\w/.]+\.(?:py|md|js|png))`", text)
    for path in (*(page.parent / one for one in links if "://" not in one), *(ROOT / one for one in named)):
        assert path.exists(), path
