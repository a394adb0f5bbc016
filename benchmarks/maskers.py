"""Which masker hides a person with the least area? Speed, deletion curves, and how much must be repainted.

    python benchmarks/maskers.py --out curves data=lfw data.root=<zip> data.min_photos=5 split.probes=200

The other arguments are `run.py`'s. For each masker: recogniser passes and seconds a face, of scores that no cache had;
for each inpainter, over a range of ratios: the mean cosine of a held-out judge between a face before and after (the
deletion curve; Petsiuk et al. 2018, arXiv:1806.07421) and its mean up to the last ratio, rank-1 and TAR@FAR=1e-3
against the clear gallery, and the smallest ratio at which that TAR is at most 1 %. 95 % intervals resample people. One
JSON file a masker in `--out`, kept if it is there; prints a table of what is there.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from hydra.utils import instantiate
from torch import nn

from veil.anonymization.anonymizer import Anonymizer, Masking
from veil.config import Config, compose, conf_folder
from veil.data.faces import divide
from veil.errors import InputError
from veil.evaluation.material import Material, clear_comparison
from veil.faces.pictures import as_saved
from veil.metrics.identification import Comparison, recognition
from veil.metrics.intervals import bootstrap_mean, share_interval
from veil.metrics.needed import smallest_ratio
from veil.metrics.verification import pairs, strangers_of
from veil.recognizers.embed import Embedder
from veil.storage.progress import Stages
from veil.tasks.fit import quiet_lightning
from veil.tasks.prepare import prepared
from veil.tasks.whitebox import asking_masker, enrolled_whitebox
from veil.types import Embeddings, Inpainter

FAR = 1e-3
BATCH = 16


class Counter:
    """Counts the pictures that a recogniser is shown."""

    def __init__(self, recognizer: nn.Module) -> None:
        self.shown = 0
        recognizer.register_forward_hook(self._count)

    def _count(self, _module: nn.Module, inputs: tuple[torch.Tensor], _output: torch.Tensor) -> None:
        self.shown += len(inputs[0])


class Bench:
    """Faces, white box and judge of a config, loaded once."""

    def __init__(self, overrides: list[str], masker: str, side: str, judge: str) -> None:
        self.overrides, self.stages = overrides, Stages()
        quiet_lightning()
        self.config = compose(*overrides, f"masker={masker}")
        enrolment = prepared(self.config, self.stages)
        sides = divide(enrolment, self.config.split.attackers, self.config.seed, self.config.split.probes)
        self.side = sides[("evaluation", "attackers").index(side)]
        white, held_out = instantiate(self.config.recognizer), instantiate(self.config.judges[judge])
        clear = {
            name: Embedder(name, recognizer, self.config.cache, self.stages).both(enrolment)
            for name, recognizer in (("white box", white), (judge, held_out))
        }
        self.whitebox = enrolled_whitebox(self.config, white, clear["white box"], enrolment, self.stages)
        self.judge, self.passes = held_out, Counter(white)
        keys = [*enrolment.gallery.keys, *enrolment.probes.keys]
        known = dict(zip(keys, torch.cat(tuple(clear[judge])), strict=True))
        material = Material(
            self.side,
            sides[1],
            {judge: Embedder(judge, held_out, self.config.cache, self.stages)},
            {judge: known},
            {},
            {},
            judge,
            0,
            self.stages,
        )
        strangers = strangers_of(pairs(clear_comparison(material, judge, self.side)))  # of clear photos, for all ratios
        if strangers.unsupported(FAR):
            raise InputError(
                f"split.probes must leave enough clear pairs for a FAR of {FAR}: {strangers.unsupported(FAR)}"
            )
        self.limit, self.others = strangers.threshold(FAR), sides[1].gallery
        gallery = material.clear(judge, self.side.gallery)
        found = gallery.any(dim=1)  # where the judge finds a face
        self.templates, self.enrolled = gallery[found], torch.tensor(self.side.gallery.identities)[found]
        known_people = set(self.enrolled.tolist())
        self.probes = self.side.probes.select(
            at for at, person in enumerate(self.side.probes.identities) if person in known_people
        )
        self.before = material.clear(judge, self.probes)

    def measured(self, masker: str, inpainter: str, ratios: list[float], people: np.ndarray) -> tuple[dict, dict]:
        """Figures and curves of a masker under an inpainter."""
        chosen = (*self.overrides, f"masker={masker}", f"inpainter={inpainter}")
        configs = [compose(*chosen, f"ratio={ratio}") for ratio in ratios]
        paint = instantiate(configs[0].inpainter)
        cost, curve = self.cost(configs[0], paint), self.curve(configs, paint)
        return {**summary(curve, ratios, people), "cost": cost}, curve

    @torch.no_grad()
    def cost(self, config: Config, paint: Inpainter) -> dict[str, float]:
        """Of scoring one batch, a face; another face goes first, to warm up."""
        asked = asking_masker(replace(config, cache_scores=False), lambda: paint, lambda: self.others)
        first, *others = range(min(BATCH + 1, len(self.probes)))
        asked(next(iter(self.probes.select([first]).loader(1))), self.whitebox)
        faces = next(iter(self.probes.select(others).loader(BATCH)))
        start, shown = time.perf_counter(), self.passes.shown
        asked(faces, self.whitebox)
        seconds, passes = time.perf_counter() - start, self.passes.shown - shown
        return {"seconds": seconds / len(others), "passes": passes / len(others)}

    def curve(self, configs: list[Config], paint: Inpainter) -> dict[str, list[list[float]]]:
        """Per face: cosine, rank-1 and accepted pairs under each config."""
        columns: dict[str, list[list[float]]] = {"cosine": [], "rank1": [], "accepted": []}
        for config in configs:
            after = self.after(config, paint)
            probed = torch.tensor(self.probes.identities)
            found = recognition(Comparison(after, probed, self.templates, self.enrolled), {FAR: self.limit})
            columns["cosine"].append((after * self.before).sum(dim=1).tolist())
            columns["rank1"].append((found.rank == 1).double().tolist())
            columns["accepted"].append(found.accepted[FAR].tolist())
        return columns

    @torch.no_grad()
    def after(self, config: Config, paint: Inpainter) -> Embeddings:
        """The judge's embeddings of all probes, anonymised as a run does it."""
        masking = Masking(config.ratio, config.cells, config.protect, config.hide_at_far is not None, config.raggedness)
        masker, nowhere = asking_masker(config, lambda: paint, lambda: self.others), lambda *_: None
        anonymize = Anonymizer(masker, paint, self.whitebox, masking, config.image_format, nowhere, self.stages)
        batches = self.probes.loader(BATCH)
        return torch.cat([self.judge(as_saved(anonymize(faces)[0], config.image_format)) for faces in batches])


def summary(curve: dict, ratios: list[float], people: np.ndarray) -> dict:
    """Means with intervals, the curve's mean up to the last ratio (cosine 1 at 0), the smallest ratio."""
    faces = {name: np.array(curve[name]).T for name in ("cosine", "rank1", "accepted")}
    means = {
        name: {f"{ratio:g}": interval(faces[name][:, at], people)._asdict() for at, ratio in enumerate(ratios)}
        for name, interval in (("cosine", bootstrap_mean), ("rank1", share_interval), ("accepted", share_interval))
    }
    points, values = np.array([0.0, *ratios]), np.pad(faces["cosine"], ((0, 0), (1, 0)), constant_values=1.0)
    under = np.trapezoid(values, points, axis=1) / ratios[-1]
    needed = smallest_ratio(ratios, faces["accepted"], people)
    return {
        **means,
        "mean_cosine": bootstrap_mean(under, people)._asdict(),
        "smallest_ratio": needed and needed._asdict(),
    }


def table(folder: Path) -> None:
    def shown(figure: dict | None, digits: int = 3) -> str:
        if figure is None:
            return "not reached"
        return f"{figure['value']:.{digits}f} ({figure['low']:.{digits}f} .. {figure['high']:.{digits}f})"

    print("| inpainter | masker | passes a face | ms a face | mean cosine | smallest ratio |")
    print("|---|---|---|---|---|---|")
    for path in sorted(folder.glob("*.json")):
        found = json.loads(path.read_text())
        for inpainter, figures in found["inpainters"].items():
            each = (f"{figures['cost']['passes']:.0f}", f"{1000 * figures['cost']['seconds']:.0f}")
            columns = (inpainter, f"`{path.stem}`", *each, shown(figures["mean_cosine"]))
            print("|", " | ".join((*columns, shown(figures["smallest_ratio"]))), "|")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path)
    every = ",".join(sorted(path.stem for path in conf_folder().glob("masker/*.yaml")))
    parser.add_argument("--maskers", default=every, help="of conf/masker, with commas")
    parser.add_argument("--ratios", default="0.1,0.2,0.3,0.4,0.5,0.7,1")
    parser.add_argument("--inpainters", default="telea,face_diffusion", help="of conf/inpainter")
    parser.add_argument("--side", choices=["evaluation", "attackers"], default="evaluation")
    parser.add_argument("--judge", default="dlib")
    args, overrides = parser.parse_known_args()
    maskers = args.maskers.split(",")
    ratios = [float(ratio) for ratio in args.ratios.split(",")]
    args.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(overrides, maskers[0], args.side, args.judge)
    people = np.array(bench.probes.identities)
    for masker in maskers:
        path = args.out / f"{masker}.json"
        if path.exists():
            continue
        found = {name: bench.measured(masker, name, ratios, people) for name in args.inpainters.split(",")}
        contents = {
            "faces": len(people),
            "people": len(np.unique(people)),
            "ratios": ratios,
            "judge": args.judge,
            "arguments": overrides,
            "inpainters": {name: figures for name, (figures, _) in found.items()},
            "curves": {name: curve for name, (_, curve) in found.items()},
        }
        path.write_text(json.dumps(contents))
    table(args.out)


if __name__ == "__main__":
    main()
