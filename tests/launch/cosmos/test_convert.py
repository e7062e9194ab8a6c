"""`convert` and `export` from the command line: what they write, and how they refuse."""

import json
import shutil
import sys
from dataclasses import replace
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from configs.cosmos_weights import Convert
from launch.cosmos import __main__ as cosmos
from launch.cosmos import convert as cosmos_convert
from launch.cosmos import hub as cosmos_hub
from tests.wm.cosmos import published
from wm.cosmos.networks.config import PRESETS, DiTConfig
from wm.cosmos.weights import export, models
from wm.cosmos.weights.sources import WeightsError

TINY = PRESETS["tiny"]
TEXT = replace(
    PRESETS["predict2.5-2b"],
    name="custom",
    dit=DiTConfig(width=24, blocks=1, heads=1, adaln_rank=8, context_width=16, text_width=20),
    repository="",
    folder="",
)


def run(capsys, *arguments):
    """(exit status, stdout, stderr) of a verb."""
    status = 0
    try:
        cosmos.main(list(map(str, arguments)))
    except SystemExit as stopped:
        status = stopped.code
    return status, *capsys.readouterr()


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """A folder as diffusers publishes models, with a text embedding beside the transformer."""
    folder = tmp_path_factory.mktemp("pipeline")
    for part, config in (("transformer", TEXT), ("vae", TINY.vae)):
        params = published.random_params(config, dtype=np.dtype(jnp.bfloat16))
        export.export(folder / part, models.Model(config, params, None, {}))
    embedding = np.random.default_rng(0).standard_normal((1, 3, 20), np.float32)
    save_file({"embedding": embedding}, folder / "cr1_text_embeddings.safetensors")
    np.save(folder / "narrow.npy", embedding[..., :7])
    return folder


def test_a_pipeline_is_converted_and_exported_whole(tmp_path, pipeline, capsys):
    text = pipeline / "cr1_text_embeddings.safetensors"
    arguments = (
        "convert",
        "--source",
        pipeline,
        "--out",
        tmp_path / "m",
        "--text",
        text,
        "--dtype",
        "float32",
    )
    status, out, _ = run(capsys, *arguments)
    assert status == 0
    assert "custom, diffusers names" in out
    model = models.load(tmp_path / "m" / "transformer")
    assert model.config == TEXT
    assert model.params["patch"]["kernel"].dtype == np.float32
    assert model.context.shape == (1, 3, 16)
    assert models.load(tmp_path / "m" / "vae").config == TINY.vae
    assert run(capsys, "export", "--model", tmp_path / "m", "--out", tmp_path / "e")[0] == 0
    assert sorted(p.name for p in (tmp_path / "e").iterdir()) == ["transformer", "vae"]
    assert json.loads((tmp_path / "e/vae/config.json").read_text())["_class_name"] == "AutoencoderKLWan"
    shutil.move(tmp_path / "m" / "transformer", tmp_path / "tuned")  # as finetune leaves it
    assert run(capsys, "export", "--model", tmp_path / "tuned", "--out", tmp_path / "alone")[0] == 0
    assert [p.name for p in (tmp_path / "alone").iterdir()] == ["transformer"]

    status, _, error = run(capsys, *arguments)
    assert status == 1
    assert "holds a model already" in error
    status, _, error = run(capsys, "export", "--model", tmp_path / "m", "--out", tmp_path / "e")
    assert status == 1
    assert "exists already" in error


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--model", "predict2-2b"), "holds custom, not predict2-2b as was asked for"),
        (("--model", "super"), "Cosmos3-Super has 64B"),
        (("--running-mean",), "holds no running means; leave --running-mean out"),
        (("--vae", "{pipeline}/transformer"), "are of the same kind"),
        (("--text", "{pipeline}/vae/config.json"), "weights are .safetensors"),
        (("--text", "{pipeline}/narrow.npy"), "the text embedding is 7 wide; this model takes 20 or 16"),
    ],
)
def test_a_refused_conversion_leaves_nothing(tmp_path, pipeline, capsys, arguments, told):
    arguments = [argument.format(pipeline=pipeline) for argument in arguments]
    status, _, error = run(capsys, "convert", "--source", pipeline, "--out", tmp_path / "m", *arguments)
    assert status == 1
    assert told in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "m").exists()


def test_what_is_nowhere_is_said_so(tmp_path, capsys):
    status, _, error = run(capsys, "convert", "--source", "nowhere", "--out", tmp_path)
    assert status == 1
    assert "no such file or folder here: nowhere" in error
    assert run(capsys, "convert", "--source", "tiny", "--out", tmp_path)[2].startswith(
        "error: tiny was never"
    )
    status, _, error = run(capsys, "export", "--model", tmp_path, "--out", tmp_path / "e")
    assert status == 1
    assert "holds neither transformer/ nor vae/" in error


# Downloads, from a hub that is a folder


class Hub:
    """Stands in for huggingface_hub: repositories by name, each a folder of files."""

    def __init__(self, repositories, error=None):
        self.repositories, self.error = repositories, error

    def HfApi(self):
        return self

    def model_info(self, repository, files_metadata):
        assert files_metadata
        if self.error:
            raise self.error
        root = self.repositories[repository]
        files = [path for path in root.rglob("*") if path.is_file()]
        siblings = [
            SimpleNamespace(rfilename=path.relative_to(root).as_posix(), size=path.stat().st_size)
            for path in files
        ]
        return SimpleNamespace(siblings=siblings, card_data={"license_name": "test-licence"}, gated="auto")

    def snapshot_download(self, repository, allow_patterns):
        self.fetched = allow_patterns
        return str(self.repositories[repository])


@pytest.fixture
def nvidia(tmp_path):
    """A repository laid out as NVIDIA's."""
    root = tmp_path / "hub"
    state = {
        f"net.{n}": t for n, t in published.tensors(TEXT, published.random_params(TEXT), "original").items()
    }
    for folder in ("base/post-trained", "robot/action-cond"):
        (root / folder).mkdir(parents=True)
        save_file(state, root / folder / "model_ema_bf16.safetensors")
    embedding = np.zeros((1, 3, 20), np.float32)
    save_file({"embedding": embedding}, root / "robot/action-cond/cr1_text_embeddings.safetensors")
    vae = published.tensors(TINY.vae, published.random_params(TINY.vae), "original")
    save_file(vae, root / "tokenizer.pth")  # the name counts here, not what is in it
    (root / "README.md").write_text("x" * 1000)
    return root


def test_size_and_licence_come_before_a_download(tmp_path, nvidia, capsys, monkeypatch):
    hub = Hub({"nvidia/Test": nvidia})
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: False))
    arguments = ("convert", "--source", "nvidia/Test/robot/action-cond", "--out", tmp_path / "m")
    status, out, error = run(capsys, *arguments)
    assert status == 1
    assert "--yes downloads without asking" in error
    assert "nvidia/Test/robot/action-cond: 3 files" in out
    assert "licence: test-licence, to be accepted at" in out
    assert not hasattr(hub, "fetched")


def test_a_repository_is_downloaded_by_parts(nvidia, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", Hub({"nvidia/Test": nvidia}))
    plan = cosmos_hub.plan("nvidia/Test/robot/action-cond")
    assert sorted(plan.sizes) == [
        "robot/action-cond/cr1_text_embeddings.safetensors",
        "robot/action-cond/model_ema_bf16.safetensors",
        "tokenizer.pth",
    ]
    assert plan.autoencoder == "tokenizer.pth"
    config = Convert("nvidia/Test/robot/action-cond", nvidia, yes=True)
    parts, text = cosmos_convert.locate(config)
    assert parts == [nvidia / "robot/action-cond", nvidia / "tokenizer.pth"]
    assert text == nvidia / "robot/action-cond/cr1_text_embeddings.safetensors"
    with pytest.raises(WeightsError, match=r"nvidia/Test isn't one model; name one of its files: base/post-"):
        cosmos_hub.plan("nvidia/Test")


def test_a_repository_of_diffusers_is_downloaded_without_its_text_encoder(pipeline, tmp_path, monkeypatch):
    (tmp_path / "text_encoder").mkdir()
    (tmp_path / "text_encoder/model.safetensors").write_text("")
    for part in ("transformer", "vae"):
        (tmp_path / part).symlink_to(pipeline / part)
    hub = Hub({"nvidia/Pipe": tmp_path})
    hub_files = [
        f"{part}/{file.name}" for part in ("transformer", "vae") for file in (pipeline / part).iterdir()
    ]
    info = SimpleNamespace(
        siblings=[
            SimpleNamespace(rfilename=n, size=1) for n in (*hub_files, "text_encoder/model.safetensors")
        ],
        card_data=None,
        gated=False,
    )
    monkeypatch.setattr(hub, "model_info", lambda *_, **__: info, raising=False)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    plan = cosmos_hub.plan("nvidia/Pipe")
    assert sorted(plan.sizes) == sorted(hub_files)
    assert "licence: not stated, see" in plan.describe()


def test_no_network_is_said_in_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "huggingface_hub", Hub({}, OSError("no route\nto host")))
    status, _, error = run(capsys, "convert", "--source", "predict2.5-2b", "--out", tmp_path / "m")
    assert status == 1
    assert "nvidia/Cosmos-Predict2.5-2B can't be had" in error
    assert "no route to host" in error
    assert error.count("\n") == 1
