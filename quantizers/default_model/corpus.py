"""Makes the training corpus of the shipped model: Debian packages -> cleaned English text, one file per source.

    python -m quantizers.default_model.corpus --out corpus --wikitext wikitext-2/valid.txt

downloads the packages of `SOURCES` with `apt-get download` (nothing is installed), unpacks them with `dpkg-deb -x` and
writes `corpus/<source>.txt` (documents separated by a form feed), `corpus/heldout.txt` and `corpus/calibration.txt`.
The last two hold public-domain text only. No training paragraph shares a passage of 70 letters with `heldout.txt`.
"""

from __future__ import annotations

import argparse
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from quantizers.default_model.sources import SOURCES

DOCUMENT_END = "\f"
SHINGLE = 60  # characters (letters and digits only) that two texts may not share
HELDOUT_FROM = {"devil": 0.86, "jargon": 0.96}  # share of the documents that stays in training
CALIBRATION_CHARACTERS = 30_000  # from each of the three public-domain sources


def unpack(packages: Iterable[str], folder: Path) -> Path:
    """Downloads Debian packages into `folder` and unpacks them there, nothing is installed; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for package in packages:
        if not list(folder.glob(f"{package}_*.deb")):
            subprocess.run(["apt-get", "download", "-q", package], cwd=folder, check=True)
        (archive,) = folder.glob(f"{package}_*.deb")
        subprocess.run(["dpkg-deb", "-x", str(archive), str(folder)], check=True)
    return folder


def wikitext_documents(path: Path) -> list[str]:
    """The articles of a WikiText file; an article begins at a line ` = Title = `."""
    return re.split(r"\n(?= = [^=\n]+ = ?\n)", path.read_text(encoding="utf-8"))


def shingles(text: str, step: int) -> set[str]:
    """The `SHINGLE`-character passages of the text at every `step`-th place, letters and digits only, in lower case."""
    squeezed = re.sub(r"[\W_]+", "", text.lower())
    return {squeezed[i : i + SHINGLE] for i in range(0, len(squeezed) - SHINGLE + 1, step)}


def without_overlap(document: str, heldout: set[str]) -> str:
    """The document less the lines that share a passage with the held-out text, of which `heldout` has every tenth."""
    return "\n".join(line for line in document.split("\n") if heldout.isdisjoint(shingles(line, 1)))


def split_heldout(documents: dict[str, list[str]]) -> tuple[str, dict[str, list[str]]]:
    """Takes the ends of two public-domain sources out: 14 % of the Devil's Dictionary and 4 % of the Jargon File."""
    rest, parts = dict(documents), []
    for source, kept in HELDOUT_FROM.items():
        cut = int(len(documents[source]) * kept)
        parts += documents[source][cut:]
        rest[source] = documents[source][:cut]
    return "\n\n".join(parts), rest


def calibration_text(documents: dict[str, list[str]]) -> str:
    """`CALIBRATION_CHARACTERS` from the middle of each public-domain source (training text, so apart from held-out)."""
    parts = []
    for source in ("bible", "devil", "jargon"):
        text = "\n".join(documents[source])
        start = text.index("\n", len(text) // 2) + 1
        parts.append(text[start : text.index("\n", start + CALIBRATION_CHARACTERS)])
    return "\n\n".join(parts)


def make_corpus(out: Path, wikitext: Path | None) -> None:
    """Writes the corpus into the folder `out`; downloads stay in `out/packages`."""
    documents = {
        name: list(source.read(unpack(source.packages, out / "packages" / name))) for name, source in SOURCES.items()
    }
    heldout, documents = split_heldout(documents)
    known = shingles(heldout, 10)
    documents = {name: [without_overlap(text, known) for text in texts] for name, texts in documents.items()}
    if wikitext is not None:
        documents["wikitext"] = wikitext_documents(wikitext)
    for name, texts in documents.items():
        text = DOCUMENT_END.join(t for t in texts if len(t) >= 200 or name == "wikitext")
        (out / f"{name}.txt").write_text(text, encoding="utf-8")
        print(f"{name:12} {len(text) / 1e6:7.2f} MB")
    (out / "heldout.txt").write_text(heldout, encoding="utf-8")
    (out / "calibration.txt").write_text(calibration_text(documents), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the corpus")
    parser.add_argument("--wikitext", type=Path, help="WikiText-2 validation split, plain text")
    arguments = parser.parse_args()
    make_corpus(arguments.out, arguments.wikitext)


if __name__ == "__main__":
    main()
