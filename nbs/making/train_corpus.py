"""Make the text that the suites of `making/02_train` were trained on.

    python train_corpus.py PACKAGES EVALUATION OUT [TIMES]

PACKAGES holds one folder for each Debian 12 package of the table below, unpacked without installing it:
`apt-get download NAME && dpkg -x NAME_*.deb PACKAGES/NAME`. EVALUATION is a folder of .jsonl files, a `text` a line,
the passages that must not be trained on: a document that shares twelve words in a row with one of them is left out. OUT
becomes a .jsonl with one document of up to 6,000 characters a line (`text`, `source`, `licence`); the last documents of
every source stand at its end, so that holding out the last states holds out whole documents. Text is not shipped: this
makes it. TIMES takes so many times the text of each source, where there is so much.
"""

import glob
import gzip
import html
import json
import random
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

LONGEST, HELD_OUT = 6000, 0.08
SOURCES = {  # name: (package, files in it, characters, licence)
    "anarchism_faq": ("anarchism", "usr/share/doc/anarchism/markdown/*.md.gz", 200_000, "GPL-2.0-or-later"),
    "bible_kjv": ("bible-kjv", None, 80_000, "public domain"),
    "fortunes": ("fortunes", "usr/share/games/fortunes/*", 110_000, "collected quotations, BSD distribution"),
    "devils_dictionary": ("dict-devil", "usr/share/dictd/*.dict.dz", 50_000, "public domain"),
    "debian_handbook": (
        "debian-handbook",
        "usr/share/doc/debian-handbook/html/en-US/*.html",
        110_000,
        "GPL-2.0-or-later or CC-BY-SA-3.0",
    ),
    "rust_book": ("rust-doc", "usr/share/doc/rust-doc/html/book/*.html", 90_000, "MIT or Apache-2.0"),
    "foldoc": ("dict-foldoc", "usr/share/dictd/*.dict.dz", 110_000, "GFDL-1.1-or-later"),
    "gcide": ("dict-gcide", "usr/share/dictd/*.dict.dz", 90_000, "GPL-2.0-or-later"),
    "perl_pod": ("perl-doc", "usr/share/perl/*/**/*.pod", 70_000, "GPL-1.0-or-later or Artistic"),
    "git_doc": ("git-doc", "usr/share/doc/git/**/*.txt*", 70_000, "GPL-2.0"),
    "code": (None, ("numpy", "pandas", "scipy", "sae_lens", "transformer_lens"), 180_000, "BSD-3-Clause or MIT"),
}


def read(path):
    "A file as text, unpacked; HTML and POD without their marks."
    with (gzip.open if path.endswith((".gz", ".dz")) else open)(path, "rb") as f:
        text = f.read().decode("utf-8", "replace")
    if path.endswith(".html"):
        text = re.sub(r"[ \t]*\n[ \t]+", "\n", text)
        body = re.search(r"<main.*?</main>", text, re.S) or re.search(r"<body.*", text, re.S)
        text = re.sub(r"<(script|style|nav|head|button)\b.*?</\1>", "", body[0] if body else text, flags=re.S)
        text = html.unescape(re.sub(r"<[^>]+>", "", re.sub(r"</(p|li|h\d|tr|dt|dd|pre|div)>|<br[^>]*>", "\n", text)))
    if path.endswith(".pod"):
        text = re.sub(r"^=\w+ ?", "", re.sub(r"[A-Z]<+\s?([^<>]*?)\s?>+", r"\1", text), flags=re.M)
    if path.endswith(".md.gz"):
        text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    if path.endswith(".dict.dz"):
        text = re.sub(r"\n[ \t]{2,}", "\n", re.sub(r"[{}]", "", text))
    return re.sub(r"\n\s*\n+", "\n\n", text).strip()


def documents(packages, name):
    "The documents of one source, whole."
    package, where, _, _ = SOURCES[name]
    if package == "bible-kjv":
        cmd = [
            packages / package / "usr/bin/bible",
            "-f",
            "-p",
            f"{packages}/bible-kjv-text/usr/lib/",
            "gen1:1-rev22:21",
        ]
        verses = subprocess.run(cmd, capture_output=True, text=True, check=True).stdout
        yield re.sub(r"^\w+?\d+:\d+ ", "", verses, flags=re.M).replace("\n", " ")
    elif package is None:
        root = sysconfig.get_paths()["purelib"]
        yield from (read(p) for lib in where for p in sorted(glob.glob(f"{root}/{lib}/**/*.py", recursive=True)))
    else:
        skip = r"\.(dat|u8)$|genindex|print\.html|changelog|biblio|links|RelNotes"
        found = (
            p
            for p in sorted(glob.glob(f"{packages}/{package}/{where}", recursive=True))
            if not re.search(skip, p) and Path(p).is_file()
        )
        yield from map(read, found)


def pieces(text):
    "Cut at the ends of lines or sentences into documents of at most LONGEST characters."
    while len(text) > LONGEST:
        cut = max(text.rfind("\n", LONGEST // 2, LONGEST), text.rfind(". ", LONGEST // 2, LONGEST) + 1, LONGEST // 2)
        yield text[:cut]
        text = text[cut:].strip()
    if len(text) > 400:
        yield text


def shingles(text, n=12):
    words = re.findall(r"\w+", text.lower())
    return {" ".join(words[i : i + n]) for i in range(len(words) - n + 1)}


def main(packages, evaluation, out, times=1):
    unseen = set().union(
        *(shingles(json.loads(line)["text"]) for p in sorted(Path(evaluation).glob("*.jsonl")) for line in p.open())
    )
    train, held, left_out = [], [], 0
    for name, (_, _, budget, licence) in SOURCES.items():
        docs, picked, size = [p for d in documents(Path(packages), name) for p in pieces(d)], [], 0
        random.Random(name).shuffle(docs)
        for text in docs:
            if size >= float(times) * budget:
                break
            if shingles(text) & unseen:
                left_out += 1
                continue
            picked.append(dict(text=text, source=name, licence=licence))
            size += len(text)
        n = max(1, round(HELD_OUT * len(picked)))
        train, held = train + picked[n:], held + picked[:n]
        print(f"{name:18s} {len(picked):4d} documents of {len(docs):6d}, {size:8,d} characters")
    random.Random(0).shuffle(train), random.Random(1).shuffle(held)
    Path(out).write_text("".join(json.dumps(d) + "\n" for d in train + held))
    print(
        f"{len(train)} documents to train on, {len(held)} held out; "
        f"{left_out} left out that share text with the evaluation"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
