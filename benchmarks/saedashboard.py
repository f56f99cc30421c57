"""Ten cards of the embedded suite against what SAEDashboard computes for the same latents and the same text.

    python benchmarks/saedashboard.py prepare FOLDER            # tokens, hidden states and unembedding, by saematch
    VENV/bin/python benchmarks/saedashboard.py measure FOLDER   # SAEDashboard's numbers -> saedashboard.json
    python benchmarks/saedashboard.py compare                   # a table; tests/test_saedashboard.py reads the same

SAEDashboard (sae-dashboard 0.8.0) needs older versions of transformers and TransformerLens than saematch, so it has an
environment of its own: `python -m venv VENV; VENV/bin/pip install sae-dashboard==0.8.0 "pyarrow<18"`. It takes hidden
states from its cache folder, where `prepare` has put those of saematch's model. Everything from there on is its own:
encoding by SAELens, what is masked, densities, histograms, top sequences, logits. It scales each latent to a decoder
row of norm 1, and multiplies with an unembedding into which the final norm's weights are folded, as is its habit.
"""

import json
import sys
from pathlib import Path

LAYER, LATENTS = 14, (44, 136, 220, 475, 797, 1091, 1148, 1439, 1839, 2000)
STORED = Path(__file__).with_suffix(".json")
SUITE = Path(__file__).parents[1] / "saematch" / "suites" / "smollm2-135m-resid"


def prepare(folder: Path) -> None:
    import torch

    from saematch import load_lm
    from saematch.model.activations import hidden_states, site
    from saematch.model.text import TEXTS, load_text, tokenize

    lm = load_lm("smollm2-135m", "cpu")
    tokens = tokenize(lm, [text for source in TEXTS for text in load_text(source)], 256)
    parts = [hidden_states(lm, tokens[rows], [LAYER])[LAYER] for rows in torch.arange(len(tokens)).split(8)]
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({site(LAYER): torch.cat(parts)}, folder / "model_activations_0.pt")
    what = dict(ids=tokens.ids, special=list(tokens.special), W_U=lm.ln_final.w[:, None] * lm.unembed.W_U)
    torch.save(what, folder / "text.pt")


def measure(folder: Path) -> None:
    from types import SimpleNamespace

    import torch
    from sae_dashboard.components_config import (
        ActsHistogramConfig,
        Column,
        FeatureTablesConfig,
        LogitsHistogramConfig,
        LogitsTableConfig,
        SequencesConfig,
    )
    from sae_dashboard.layout import SaeVisLayoutConfig
    from sae_dashboard.sae_vis_data import SaeVisConfig
    from sae_dashboard.sae_vis_runner import SaeVisRunner
    from sae_lens import SAE

    text, hook = torch.load(folder / "text.pt"), f"blocks.{LAYER}.hook_resid_post"
    sae = SAE.load_from_disk(str(SUITE / f"layer_{LAYER}"), device="cpu")
    norms = sae.W_dec.norm(dim=1)[list(LATENTS)].tolist()
    sequences = SequencesConfig(buffer=None, n_quantiles=0, top_acts_group_size=400)
    middle = Column(ActsHistogramConfig(), LogitsTableConfig(n_rows=10), LogitsHistogramConfig())
    layout = SaeVisLayoutConfig(columns=[Column(FeatureTablesConfig()), middle, Column(sequences)], height=750)
    cfg = SaeVisConfig(
        hook_point=hook,
        features=list(LATENTS),
        minibatch_size_tokens=len(text["ids"]),
        ignore_tokens=set(text["special"]),
        ignore_positions=[0],
        ignore_high_activation_norm_multiple=5.0,
        feature_centric_layout=layout,
        cache_dir=folder,
    )
    model = SimpleNamespace(W_U=text["W_U"].detach(), hook_dict={hook: None}, tokenizer=None)
    data = SaeVisRunner(cfg).run(sae, model, text["ids"])
    found = []
    for latent, norm in zip(LATENTS, norms):
        f = data.feature_data_dict[latent]
        group = f.sequence_data.seq_group_data[0].seq_data
        peaks = {}  # the strongest place of each document, as cards have it
        for s in group:
            peaks.setdefault(s.original_index, (s.qualifying_token_index, s.feat_acts[s.qualifying_token_index - 1]))
        density = float(f.acts_histogram_data.title.split("DENSITY = ")[1].rstrip("%")) / 100
        found.append(
            dict(
                latent=latent,
                norm=norm,
                density=density,
                histogram=sum(f.acts_histogram_data.bar_heights),
                top=[(d, p, a) for d, (p, a) in list(peaks.items())[:5]],
                promoted=f.logits_table_data.top_token_ids,
                suppressed=f.logits_table_data.bottom_token_ids,
            )
        )
    STORED.write_text(json.dumps(dict(tokens=text["ids"].numel(), latents=found), indent=1))


def compare() -> list[dict]:  # one row a latent
    "What the shipped cards and SAEDashboard say of the same latents."
    from saematch.model.cards import cards

    stored, found = json.loads(STORED.read_text()), cards("smollm2-135m-resid", LAYER)
    rows = []
    for theirs in stored["latents"]:
        row, card = found.row(theirs["latent"]), found[theirs["latent"]]
        ours = [(c.document, c.position, float(c.activations[c.peak])) for c in card.contexts if c.quantile == "top"]
        errors = [abs(a * theirs["norm"] / b - 1) for (*_, a), (*_, b) in zip(ours, theirs["top"])]
        same = lambda ids, kept: sum(r["token"] == i for r, i in zip(row[kept], ids))
        rows.append(
            dict(
                latent=theirs["latent"],
                active=card.active,
                theirs=theirs["histogram"],
                density=theirs["density"] * stored["tokens"],
                same_places=sum(x[:2] == tuple(y[:2]) for x, y in zip(ours, theirs["top"])),
                largest_error=max(errors),
                promoted=same(theirs["promoted"], "promoted"),
                suppressed=same(theirs["suppressed"], "suppressed"),
            )
        )
    return rows


def table(rows: list[dict]) -> str:
    head = [
        "latent",
        "active on",
        "by SAEDashboard",
        "top 5 the same",
        "activations differ by",
        "promoted",
        "suppressed",
    ]
    cells = [
        [
            *(r["latent"], f"{r['active']:,}", f"{r['theirs']:,.0f}", f"{r['same_places']} of 5"),
            *(f"{r['largest_error']:.1%}", f"{r['promoted']} of 10", f"{r['suppressed']} of 10"),
        ]
        for r in rows
    ]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in (head, ["---"] * len(head), *cells))


if __name__ == "__main__":
    what, *folder = sys.argv[1:] or ["compare"]
    if what == "compare":
        print(table(compare()))
    else:
        dict(prepare=prepare, measure=measure)[what](Path(folder[0]))
