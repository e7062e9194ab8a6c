"""Published weights from Hugging Face: what a download would be, and the download.

Nothing is fetched before its size and licence have been shown. Wants the extra `hub`.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from wm.cosmos.networks.config import PRESETS
from wm.cosmos.weights import text_embedding
from wm.cosmos.weights.sources import TEXT_FILE, TORCH_SUFFIXES, WeightsError

SITE = "https://huggingface.co"
REPOSITORY = re.compile(r"([\w.-]+/[\w.-]+)(?:/(.+))?")
PARTS = ("transformer/", "vae/")  # of a repository in diffusers' format
AUTOENCODERS = ("tokenizer.pth", "tokenizer/tokenizer.pth")  # beside NVIDIA's own files


@dataclass(frozen=True)
class Download:
    """Files of a repository that make up a model.

    Attributes:
      folder: of the transformer, or the transformer's file, within the repository.
      sizes: bytes of every file by name.
      licence: its name, and whether it must be accepted on the site first.
      autoencoder, text: the files of these parts, where they aren't in `folder`; or None.
    """

    repository: str
    folder: str
    sizes: dict[str, int]
    licence: str
    gated: bool
    autoencoder: str | None
    text: str | None

    def describe(self) -> str:
        """One line for the user to decide on."""
        where = "/".join(filter(None, (self.repository, self.folder)))
        gated = f", to be accepted at {SITE}/{self.repository} first" if self.gated else ""
        size = sum(self.sizes.values()) / 1e9
        return f"{where}: {len(self.sizes)} files, {size:.2f} GB, licence: {self.licence}{gated}"


def plan(name: str, with_text: bool = True) -> Download:
    """What has to be fetched for a repository, with or without a folder or file in it.

    `with_text` looks for the text embedding as well.

    Raises:
      WeightsError: no such repository, no network, or no single model in that folder.
    """
    found = REPOSITORY.fullmatch(name)
    if not found:
        raise WeightsError(f"{name} is neither a file, a folder nor a repository such as {_examples()}")
    repository, folder = found[1], found[2] or ""
    hub = _hub()
    try:
        info = hub.HfApi().model_info(repository, files_metadata=True)
    except Exception as error:  # the client's own, its HTTP library's or the operating system's
        raise _failed(repository, error) from error
    sizes = {file.rfilename: file.size or 0 for file in info.siblings}
    names, autoencoder, text = _chosen(sizes, repository, folder, with_text)
    return Download(
        repository=repository,
        folder=folder,
        sizes={name: sizes[name] for name in names},
        licence=_licence(info, repository),
        gated=bool(info.gated),
        autoencoder=autoencoder,
        text=text,
    )


def fetch(download: Download) -> Path:
    """Downloads (or finds in the cache) and returns the local copy of the repository.

    Raises:
      WeightsError: no network, or the licence hasn't been accepted.
    """
    try:
        folder = _hub().snapshot_download(download.repository, allow_patterns=sorted(download.sizes))
    except Exception as error:
        raise _failed(download.repository, error) from error
    return Path(folder)


def _chosen(
    sizes: dict[str, int], repository: str, folder: str, with_text: bool
) -> tuple[list[str], str | None, str | None]:
    """The files to fetch, and of these the autoencoder's and the text embedding's."""
    prefix = f"{folder}/" if folder and folder not in sizes else ""
    parts = [n for n in sizes if n.startswith(tuple(prefix + part for part in PARTS))]
    if any(n.startswith(prefix + PARTS[0]) for n in parts):
        return [n for n in parts if n.endswith((".safetensors", ".json"))], None, None
    home = Path(folder).parent if folder in sizes else Path(folder)
    beside = [n for n in sizes if Path(n).parent == home]
    text = text_embedding.find(beside, repository) if with_text else None
    autoencoder = next((n for n in AUTOENCODERS if n in sizes), None)
    suffixes = (".safetensors", *TORCH_SUFFIXES)
    models = [n for n in beside if n.endswith(suffixes) and TEXT_FILE not in n and n != autoencoder]
    if folder in sizes:
        models = [folder]
    if not models or len([n for n in models if n.endswith(TORCH_SUFFIXES)]) > 1:
        listed = models or sorted(n for n in sizes if n.endswith(suffixes))
        where = "/".join(filter(None, (repository, folder)))
        raise WeightsError(f"{where} isn't one model; name one of its files: {', '.join(listed) or 'none'}")
    configs = [n for n in beside if n.endswith(".json")]
    return [*models, *configs, *(n for n in (autoencoder, text) if n)], autoencoder, text


def _licence(info, repository: str) -> str:
    card = info.card_data or {}
    named = [card.get(key) for key in ("license_name", "license", "license_link") if card.get(key)]
    known = [model.licence for model in PRESETS.values() if model.repository == repository]
    return ", ".join(dict.fromkeys(named)) or (known[0] if known else f"not stated, see {SITE}/{repository}")


def _failed(repository: str, error: Exception) -> WeightsError:
    cause = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return WeightsError(
        f"{repository} can't be had from {SITE} ({cause}); check the network and the name, accept the "
        f"licence at {SITE}/{repository} and log in (hf auth login), or name a folder with a copy of it"
    )


def _hub():
    try:
        import huggingface_hub
    except ImportError as error:
        raise WeightsError(
            "no such file or folder here, and to download one install the extra `hub` (huggingface_hub)"
        ) from error
    return huggingface_hub


def _examples() -> str:
    return next(model.repository for model in PRESETS.values() if model.repository)
