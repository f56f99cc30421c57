"""Make `saematch/text/held-out.jsonl`: passages on which verdicts rest, and which no card quotes.

    python make_held_out.py PACKAGES OUT

PACKAGES holds one folder for each Debian 12 package of the table below, unpacked without installing it:
`apt-get download NAME && dpkg -x NAME_*.deb PACKAGES/NAME`. The sources are those of the three collections that the
package ships (`prose`, `reference`, `code`), 120 passages of each kind, cut to 255 tokens. A passage that shares eight
words or sixteen tokens in a row with one of the shipped ones is left out, and so is one that repeats another. Kinds
alternate, so that the first documents of the file are a fair sample of all.
"""

import bz2
import glob
import json
import lzma
import random
import re
import struct
import sys
import sysconfig
import zlib
from collections.abc import Iterator
from pathlib import Path

from train_corpus import read, shingles

from saematch.ground import atomic
from saematch.model.lm import load_lm
from saematch.model.text import TEXTS, load_text

LENGTH = 255  # tokens of a passage
WORDS, TOKENS = 8, 16  # in a row, that no two passages may share
SOURCES = {  # name: (kind, passages, package, files in it, licence)
    "austen": ("prose", 120, "r-cran-janeaustenr", "usr/lib/R/site-library/janeaustenr/data/Rdata.rdb", None),
    "wordnet": ("reference", 60, "wordnet-base", "usr/share/wordnet/data.*", "WordNet 3.0 licence"),
    "python_docs": (
        "reference",
        40,
        "python3.11-doc",
        "usr/share/doc/python3.11/html/**/*.html",
        "PSF-2.0 (Python 3.11 documentation)",
    ),
    "postgresql": (
        "reference",
        20,
        "postgresql-doc-15",
        "usr/share/doc/postgresql-doc-15/html/*.html",
        "PostgreSQL licence (PostgreSQL 15 documentation)",
    ),
    "code_stdlib": ("code", 120, None, "**/*.py", "PSF-2.0 (Python 3.11 standard library)"),
}
AUSTEN = "public domain (Jane Austen novels, as packaged by r-cran-janeaustenr, MIT)"


def unpacked(data: bytes) -> Iterator[bytes]:
    "The streams of a database of R: a length, a letter for the method, the stream."
    at = 0
    while at < len(data) - 6:
        for start, method in (
            (4, zlib.decompressobj),
            (5, lambda: lzma.LZMADecompressor()),
            (5, bz2.BZ2Decompressor),
        ):
            try:
                stream = method()
                raw = stream.decompress(data[at + start :])
            except (zlib.error, lzma.LZMAError, OSError):
                continue
            if len(raw) > 100:
                yield raw
                at = len(data) - len(stream.unused_data)
                break
        else:
            at += 1


def novels(path: str) -> Iterator[str]:
    "The chapters of the novels."
    for raw in unpacked(Path(path).read_bytes()):
        lines = []
        for found in re.finditer(rb"\x00[\x00-\x04][\x00\x80\x40\xc0]\x09(....)", raw, re.S):
            n = struct.unpack(">i", found[1])[0]
            if 0 <= n < 3000:
                lines.append(raw[found.end() : found.end() + n].decode("utf-8", "replace"))
        if len(text := "\n".join(lines)) > 50_000:
            text = re.sub(r"(?<=[^\n])\n(?=[^\n])", " ", text)
            yield from re.split(r"\n(?=CHAPTER |Chapter |VOLUME )", text)


def glosses(path: str) -> Iterator[str]:
    "The glosses of WordNet, a hundred a document."
    lines = [line for line in Path(path).read_text(errors="replace").splitlines() if not line.startswith("  ")]
    pairs = [line.split(" | ", 1) for line in lines if " | " in line]
    said = [f"{head.split()[4].replace('_', ' ')}: {gloss.strip()}" for head, gloss in pairs]
    yield from ("\n".join(said[k : k + 100]) for k in range(0, len(said), 100))


def documents(packages: Path, name: str) -> Iterator[str]:
    "The documents of one source, whole."
    _, _, package, where, _ = SOURCES[name]
    root = packages / package if package else Path(sysconfig.get_paths()["stdlib"])
    skip = r"genindex|index-all|search\.html|/print\.html|site-packages|/test|whatsnew|changelog"
    for path in sorted(glob.glob(f"{root}/{where}", recursive=True)):
        if not re.search(skip, path.removeprefix(str(root))) and Path(path).is_file():
            yield from {"austen": novels, "wordnet": glosses}.get(name, lambda p: [read(p)])(path)


def passages(text: str, tokenizer) -> Iterator[str]:
    "Pieces of `LENGTH` tokens; what is left at the end is not used."
    places = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    for k in range(0, len(places) - LENGTH + 1, LENGTH):
        yield text[places[k][0] : places[k + LENGTH - 1][1]]


def runs(text: str, tokenizer) -> set:
    "Words in a row and tokens in a row."
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return shingles(text, WORDS) | {tuple(ids[k : k + TOKENS]) for k in range(len(ids) - TOKENS + 1)}


def main(packages: Path, out: Path) -> None:
    tokenizer = load_lm("smollm2-135m", "cpu").tokenizer
    taken = set().union(*(runs(t, tokenizer) for source in TEXTS for t in load_text(source)))
    kinds: dict[str, list] = {}
    for name, (kind, count, _, _, licence) in SOURCES.items():
        draw, docs, seen, picked = random.Random(name), list(documents(packages, name)), 0, []
        draw.shuffle(docs)
        for doc in docs:  # at most two passages of a document
            pieces = list(passages(doc[:200_000], tokenizer))
            for text in draw.sample(pieces, min(2 if name != "austen" else 3, len(pieces))):
                own = runs(text, tokenizer)
                if len(shingles(text, WORDS)) < 20 or own & taken:
                    seen += 1
                elif len(picked) < count:
                    picked.append(dict(text=text, source=name, licence=licence or AUSTEN))
                    taken |= own
            if len(picked) == count:
                break
        print(f"{name:12s} {len(picked):4d} passages of {len(docs):6d} documents; {seen} left out")
        kinds.setdefault(kind, []).extend(picked)
    for found in kinds.values():
        random.Random(0).shuffle(found)
    with atomic(out) as path:
        path.write_text("".join(json.dumps(d, ensure_ascii=False) + "\n" for row in zip(*kinds.values()) for d in row))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
