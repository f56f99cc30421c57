"""Results go to a server that speaks what is used of the hub's interface, and come back from it."""

import base64
import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from safetensors.torch import save as safetensors_bytes

import saematch
from saematch import load_sae, load_suite, match, planted, random_sae, save_sae
from saematch.ground import UnknownName, UsageError
from saematch.hub import fetch
from saematch.model.cards import Cards, cards, cards_folder
from saematch.model.show import described, listed
from saematch.studies.check import check
from saematch.studies.cli import main
from saematch.studies.cost import shapes
from saematch.studies.share import fetch_run, send_cards, send_run
from saematch.studies.toys import few_lineages, planted_folder, running

pytest.importorskip("huggingface_hub")
WRITES = "hf_writes"  # the token that may write; "hf_reads" may not


class Hub(BaseHTTPRequestHandler):
    "Repositories in memory: name -> list of commits, each a dictionary of files."

    repos: dict = {}
    sent: list = []  # (file, bytes of it) for each answer that held some of it

    def log_message(self, *_):
        pass

    def answer(self, status, content=b"", **headers):
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for k, v in {"Content-Length": len(content), "Content-Type": "application/json", **headers}.items():
            self.send_header(k.replace("_", "-"), str(v))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def refuse(self, status, why):
        self.answer(status, {"error": why}, X_Error_Code=why, X_Error_Message=why)

    def commit(self, repo, revision):
        commits = self.repos[repo]
        number = len(commits) - 1 if revision == "main" else int(revision, 16) - 1 if len(revision) == 40 else -1
        return (f"{number + 1:040x}", commits[number]) if 0 <= number < len(commits) else None

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/api/validate-yaml":
            return self.answer(200, dict(errors=[], warnings=[]))
        if self.headers.get("Authorization") != f"Bearer {WRITES}":
            return self.refuse(403, "Forbidden")
        if self.path == "/api/repos/create":
            said = json.loads(body)
            repo = f"{said.get('organization')}/{said['name']}"
            self.repos.setdefault(repo, [{}])
            return self.answer(200, dict(url=f"http://{self.headers['Host']}/{repo}"))
        repo, what = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main.*", self.path).groups()
        if what == "preupload":
            modes = [dict(path=f["path"], uploadMode="regular", shouldIgnore=False) for f in json.loads(body)["files"]]
            return self.answer(200, dict(files=modes))
        files = dict(self.repos[repo][-1])
        for said in map(json.loads, body.splitlines()):
            if said["key"] == "file":
                files[said["value"]["path"]] = base64.b64decode(said["value"]["content"])
        self.repos[repo].append(files)
        sha = f"{len(self.repos[repo]):040x}"
        self.answer(200, dict(commitUrl=f"http://{self.headers['Host']}/{repo}/commit/{sha}", commitOid=sha))

    def do_GET(self):
        path = self.path.partition("?")[0]
        listed = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(?:revision|tree)/([^/]+))?", path)
        asked = listed or re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        repo, revision = asked[1], asked[2] or "main"
        if repo not in self.repos:
            return self.refuse(404, "RepoNotFound")
        if not (found := self.commit(repo, revision)):
            return self.refuse(404, "RevisionNotFound")
        sha, files = found
        if not listed:
            if asked[3] not in files:
                return self.refuse(404, "EntryNotFound")
            data, part = files[asked[3]], re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
            said = dict(ETag=f'"{hashlib.sha1(data).hexdigest()}"', X_Repo_Commit=sha)
            first, last = (int(part[1]), min(int(part[2]), len(data) - 1)) if part else (0, len(data) - 1)
            if self.command == "GET":
                self.sent.append((asked[3], last + 1 - first))
            said |= dict(Content_Range=f"bytes {first}-{last}/{len(data)}") if part else {}
            return self.answer(206 if part else 200, data[first : last + 1], **said)
        if "/tree/" in path:
            tree = [dict(type="file", path=k, size=len(v), oid=hashlib.sha1(v).hexdigest()) for k, v in files.items()]
            return self.answer(200, tree)
        return self.answer(200, dict(id=repo, sha=sha, siblings=[dict(rfilename=k) for k in files]))

    do_HEAD = do_GET


@pytest.fixture
def hub(tmp_path, monkeypatch):
    "The address of a server without repositories, and an empty cache."
    monkeypatch.setattr(Hub, "repos", {}), monkeypatch.setattr(Hub, "sent", [])
    with running(ThreadingHTTPServer(("127.0.0.1", 0), Hub)) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        for name, value in (("HF_HUB_CACHE", str(tmp_path / "cache")), ("HF_HUB_OFFLINE", False)):
            monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
        monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
        yield address


def a_match():
    a = random_sae(8, 24)
    return match(a, planted(a, seed=1).sae)


def test_a_match_and_lineages_go_and_come_back(hub, tmp_path):
    m, t = a_match(), few_lineages()
    url = m.push_to_hub("user/m", token=WRITES, license="mit", private=True, commit_message="a match")
    assert url.startswith(hub) and set(Hub.repos["user/m"][-1]) == {"match.safetensors", "README.md", "figure.png"}
    assert b"license: mit" in Hub.repos["user/m"][-1]["README.md"]
    back = saematch.Match.from_pretrained("hf://user/m")
    assert torch.equal(back.index, m.index) and back.proof.status == m.proof.status
    again = t.push_to_hub("user/t", token=WRITES) and saematch.Lineages.from_pretrained("user/t", ["a", "b", "c"])
    assert torch.equal(again.members, t.members)
    other = m.inverse()
    other.push_to_hub("user/m", token=WRITES)
    first = f"{2:040x}"
    assert torch.equal(saematch.Match.from_pretrained(f"hf://user/m@{first}").index, m.index)
    assert torch.equal(saematch.Match.from_pretrained("user/m", revision="main").index, other.index)
    for name in ("hf://user/m", "hf://user/m@main", "hf://user/m/match.safetensors", f"hf://user/m@{3:040x}"):
        assert torch.equal(saematch.Match.load(name).index, other.index)
    assert torch.equal(saematch.Lineages.load("hf://user/t").members, t.members)


def test_saes_of_a_repository_are_fetched_one_by_one_from_one_commit(hub, tmp_path, monkeypatch):
    planted_folder(tmp_path / "suite", layers=(3, 4))
    files = {f"res/width_1k/{p.name}": p.read_bytes() for p in (tmp_path / "suite").iterdir()}
    files["res/width_2k/layer_3.safetensors"] = b"not asked for"
    Hub.repos["user/saes"] = [files]
    suite = load_suite("hf://user/saes", "res/width_1k/layer_{layer}.safetensors")
    Hub.repos["user/saes"].append({})
    there = lambda: sorted(p.name for p in (tmp_path / "cache").rglob("layer_*"))
    assert suite.layers == [3, 4] and there() == []
    at = f"hf://user/saes@{1:040x}/res/width_1k/layer_4.safetensors"
    assert suite[4].info["source"] == at and there() == ["layer_4.safetensors"]
    known = load_sae(tmp_path / "suite" / "layer_4.safetensors")
    assert torch.equal(suite[4].W_dec, known.W_dec) and torch.equal(load_sae(at).W_dec, known.W_dec)
    with pytest.raises(UsageError, match="several SAEs for layer 3; choose with pattern="):
        load_suite(f"hf://user/saes@{1:040x}")
    with pytest.raises(UnknownName, match=r"unknown place in hf://user/saes 'layer_4'; closest: "):
        load_sae(f"hf://user/saes@{1:040x}/layer_4")
    assert suite[3].d_sae == 60 and there() == ["layer_3.safetensors", "layer_4.safetensors"]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    again = load_suite(f"hf://user/saes@{1:040x}/res/width_1k")
    assert again.layers == [3, 4] and torch.equal(again[4].W_dec, known.W_dec)


def written(sae, **cfg):
    "The two files of SAELens' layout."
    weights = safetensors_bytes({k: p.contiguous() for k, p in sae.parameters().items()})
    cfg = dict(architecture="jumprelu", d_in=sae.d_model, d_sae=sae.d_sae, apply_b_dec_to_input=False) | cfg
    return {"cfg.json": json.dumps(cfg).encode(), "sae_weights.safetensors": weights}


def test_where_one_sae_is_expected_several_are_refused_before_anything_is_fetched(hub, capsys):
    one, files = written(random_sae(8, 24)), {"README.md": b"two layers"}
    files |= {f"res/layer_{layer}/{name}": data for layer in (3, 4) for name, data in one.items()}
    Hub.repos["user/saes"] = [files | {"a.safetensors": b"weights", "b.safetensors": b"of old"}]
    for place, names in (("", "a.safetensors, b.safetensors, res/layer_3, res/layer_4"), ("/res", "layer_3, layer_4")):
        with pytest.raises(
            UsageError, match=f"hf://user/saes{place} holds none of cfg.json.* give one of {names}; for"
        ):
            load_sae(f"hf://user/saes{place}")
        assert main(["match", f"hf://user/saes{place}", "smollm2-135m-resid/layer_14"]) == 2
    assert not Hub.sent and "give one of layer_3, layer_4" in capsys.readouterr().err
    assert load_sae("hf://user/saes/res/layer_4").d_sae == 24
    assert {name for name, _ in Hub.sent} == {f"res/layer_4/{name}" for name in one}, "the files of one SAE alone"
    assert main(["info", "hf://user/saes/res"]) == 0, "a place of several is a suite"


@pytest.mark.filterwarnings("error")
def test_a_plan_asks_for_first_bytes_alone(hub, tmp_path, capsys):
    sae = random_sae(64, 1200)
    saes, header = {layer: written(sae) for layer in (3, 4)}, 100_001
    save_sae(sae, tmp_path / "layer_5.safetensors")
    files = {f"layer_{layer}/{name}": data for layer, of in saes.items() for name, data in of.items()}
    files |= {"layer_5.safetensors": (tmp_path / "layer_5.safetensors").read_bytes()}
    Hub.repos["user/saes"] = [files]
    suite = load_suite("hf://user/saes")
    assert len(files["layer_5.safetensors"]) > 10 * header and suite.layers == [3, 4, 5]
    assert main(["run", "--suite", "hf://user/saes", "--dry-run", "--out", str(tmp_path / "out")]) == 0
    assert {name for name, _ in Hub.sent} == {n for n in files if n.endswith(".safetensors")}
    assert all(size == header for _, size in Hub.sent) and "weights 4 MiB" in capsys.readouterr().out
    known = shapes(suite)
    whole = load_suite("hf://user/saes")[3], Hub.sent.clear()
    assert {layer: (s.latents, s.d_model) for layer, s in known.items()} == dict.fromkeys((3, 4, 5), (1200, 64))
    assert shapes(suite)[3].latents == whole[0].d_sae and {n for n, _ in Hub.sent} == {
        "layer_4/sae_weights.safetensors",
        "layer_5.safetensors",
    }, "what is in the cache is read there"


def test_where_first_bytes_do_not_tell_the_file_is_fetched_and_that_is_said(hub, tmp_path):
    arrays = {k: p.numpy() for k, p in random_sae(8, 24).parameters().items()}
    np.savez(tmp_path / "params.npz", **arrays)
    data = (tmp_path / "params.npz").read_bytes()
    Hub.repos["user/scope"] = [{f"layer_{layer}/params.npz": data for layer in (3, 4)} | {"README.md": b""}]
    with pytest.warns(UserWarning, match="do not tell how large its SAEs are .* so they are fetched"):
        found = shapes(load_suite("hf://user/scope"), [3])
    assert found[3][:2] == (24, 8) and Hub.sent == [("layer_3/params.npz", len(data))]
    Hub.repos["user/odd"] = [{"layer_3.safetensors": b"no header", "layer_4.safetensors": b""}]
    with pytest.raises(ValueError, match="no complete safetensors file"), pytest.warns(UserWarning):
        shapes(load_suite("hf://user/odd"), [3])


def test_of_each_layer_the_sparsity_that_is_asked_for(hub):
    cfg = lambda l0: json.dumps(dict(metadata=dict(l0=l0))).encode()
    files = {f"layer_3/{name}/cfg.json": cfg(l0) for name, l0 in (("a", 20), ("b", 90))}
    Hub.repos["user/saes"] = [files | {f"layer_3/{name}/sae_weights.safetensors": b"" for name in "ab"}]
    suite = load_suite("hf://user/saes", "layer_{layer}/*", l0=80)
    assert suite.sources == {3: (f"hf://user/saes@{1:040x}/layer_3/b",)} and suite.l0 == {3: 90.0}


def test_cards_go_and_come_back_and_stand_for_a_suite(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("SAEMATCH_CACHE", str(tmp_path / "own"))
    suite = load_suite("smollm2-135m-resid")
    send_cards(suite, "user/cards", [14, 15], token=WRITES, license="apache-2.0")
    written = Hub.repos["user/cards"][-1]
    names = {"layer_14.parquet", "layer_15.parquet", "texts.parquet", "words.parquet", "README.md", "figure.png"}
    assert written.keys() == names and written["figure.png"].startswith(b"\x89PNG")
    assert (
        b"license: apache-2.0" in written["README.md"] and b"![what it looks like](figure.png)" in written["README.md"]
    )
    known = cards(suite, 14)[1091].text()
    assert Cards.from_pretrained("hf://user/cards", layer=14, sae=suite[14])[1091].text() == known
    assert not list((tmp_path / "cache").rglob("layer_15.parquet")), "one layer is asked for, one is fetched"
    assert cards("hf://user/cards", 14)[1091].text() == known == cards(suite, 14, "hf://user/cards@main")[1091].text()
    assert described("hf://user/cards/14/1091") == known and listed("hf://user/cards", "is are", 1)
    cards(suite, 14).save_pretrained(tmp_path / "kept")
    assert cards(tmp_path / "kept", 14)[1091].text() == known == described(f"{tmp_path}/kept/14/1091")
    with pytest.raises(UsageError, match="holds no cards of layer 16"):
        Cards.from_pretrained("user/cards", layer=16)
    cards(suite, 15).push_to_hub("user/one", token=WRITES, commit_message="one layer")
    assert Hub.repos["user/one"][-1].keys() == names - {"layer_14.parquet"}
    assert cards_folder("hf://user/saes@v1") == tmp_path / "own" / "cards" / "user--saes@v1"
    assert cards_folder(tmp_path / "suites" / "smollm2-135m-resid").parent.name == "cards", (
        "a path is no name of a suite"
    )


def test_what_cannot_be_sent_or_fetched_is_said(hub):
    m = a_match()
    with pytest.raises(UsageError, match="needs a token: hf auth login"):
        m.push_to_hub("user/m")
    with pytest.raises(UsageError, match="the token does not allow this with hf://user/m"):
        m.push_to_hub("user/m", token="hf_reads")
    with pytest.raises(UsageError, match="is no name on the hub"):
        m.push_to_hub("m", token=WRITES)
    with pytest.raises(UnknownName, match="there is no repository hf://user/none, or it is private"):
        fetch("hf://user/none")
    m.push_to_hub("user/m", token=WRITES)
    with pytest.raises(UnknownName, match="hf://user/m has no revision 'v9'"):
        fetch("hf://user/m@v9")
    with pytest.raises(UsageError, match="holds no lineages.safetensors: it is no Lineages"):
        saematch.Lineages.from_pretrained("hf://user/m")
    Hub.repos["user/m"][-1]["model.pkl"] = b"\x80\x04."
    assert not (fetch("hf://user/m") / "model.pkl").exists(), "nothing that could run code is fetched"
    whole = Hub.repos["user/m"][-1]["match.safetensors"]
    Hub.repos["user/m"].append({"match.safetensors": whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]})
    with pytest.raises(ValueError, match="is damaged: what it holds does not fit its checksum"):
        saematch.Match.from_pretrained("hf://user/m")


@pytest.mark.usefixtures("unpainted")
def test_a_suite_is_run_from_the_hub_and_the_run_goes_there(hub, tmp_path, capsys):
    planted_folder(tmp_path / "suite", layers=(3, 4))
    Hub.repos["user/saes"] = [{p.name: p.read_bytes() for p in (tmp_path / "suite").iterdir()}]
    asked = ["run", "--suite", "hf://user/saes", "--out", str(tmp_path / "out"), "--jobs", "1", "--no-lineages"]
    assert main(asked) == 0 and check(tmp_path / "out").unknown.empty
    send_run(tmp_path / "out", "user/run", token=WRITES, license="apache-2.0")
    page = Hub.repos["user/run"][-1]["README.md"].decode()
    assert "![mse](figures/mse.png)" in page and "# The features of saes across layers" in page
    folder = fetch_run("hf://user/run")
    found = check(folder)
    assert found.ok and set(found.unknown.file) == {"README.md"}, found.lines()
    assert (found.table.query("question == 'true' and kind == 'match'").state == "right").all()
    (tmp_path / "out" / "pairs.parquet").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="is not what was written, so it is not sent: pairs.parquet"):
        send_run(tmp_path / "out", "user/run", token=WRITES)
    with pytest.raises(UsageError, match="holds no run"):
        fetch_run("hf://user/saes")
    capsys.readouterr()
    assert main([*asked[:2], "hf://user/none", *asked[3:]]) == 2 and "there is no repository" in capsys.readouterr().err
