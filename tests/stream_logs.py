"""The logs of a made-up stream, as the loop writes them, for tests of its page and for looking at it.

Run as a script it writes ``report.html`` into the folder that is named.
"""

from __future__ import annotations

import json
import math
import random
import sys
from pathlib import Path

SIZE, WARM_UP, DENSE = 1024, 4096, 400_000.0


def sample(n_windows=40, seed=0):
    """Make the logs of a run whose stream changes in the middle."""
    rng = random.Random(seed)
    windows, emissions, alarms, patterns = [], [], {"loss": 0, "gap": 0}, 0
    for index in range(n_windows):
        events = (index + 1) * SIZE
        shock = math.exp(-abs(index - n_windows / 2) / 2) if index >= n_windows / 2 else 0.0
        dense = 0.85 + 0.1 * shock + rng.gauss(0, 0.004)
        gap = {"sparse": 0.3 + 4 * shock + rng.gauss(0, 0.1), "served": 0.4 + 5 * shock + rng.gauss(0, 0.1)}
        if index == n_windows // 2:
            alarms["loss"] += 1
        if index == n_windows // 2 + 1:
            alarms["gap"], patterns = alarms["gap"] + 1, patterns + 1
        early = events <= WARM_UP
        ne = {"dense": dense, **{name: dense * (1 + value / 100) for name, value in gap.items()}}
        windows.append(
            {
                "window": index,
                "events": events,
                "size": SIZE,
                "rate": 0.1 + rng.gauss(0, 0.005),
                "ne": ne | ({"served": None} if early else {}),
                "auc": {name: 0.72 + rng.gauss(0, 0.005) for name in ne} | ({"served": None} if early else {}),
                "calibration": {name: 1 + rng.gauss(0, 0.02) for name in ne} | ({"served": None} if early else {}),
                "gap_percent": gap | ({"served": None} if early else {}),
                "total": {
                    "ne": {"dense": 0.8512, "sparse": 0.8539, "served": None if early else 0.8544},
                    "gap_percent": {"sparse": 0.317, "served": None if early else 0.376},
                    "counted": {name: max(events - WARM_UP, 0) for name in ne},
                },
                "serving": None if early else max(index - 4, 1),
                "alarms": dict(alarms),
                "patterns": patterns,
                "density": [max(1 - index / 4, 0.08) + 0.002 * layer for layer in range(3)],
                "churn": None if not index else 0.02 + 0.05 * shock,
                "flops": {"train": 8 * DENSE, "serve": DENSE * (0.1 if not early else 1.0), "dense": DENSE},
                "train_flops": 8 * DENSE * events,
                "ids": [min(events // 2, 20_000), 300 + index],
                "counts": {"events": events, "late": index // 3, "bad_label_missing": 2 * index, "duplicate": 0},
            }
        )
        if not early or events == WARM_UP:
            number = len(emissions) + 1
            why = "first" if number == 1 else "gap" if index == n_windows // 2 + 2 else "every"
            bad = index % 7 == 6
            emissions.append(
                {"number": number, "events": events, "why": why, "loss": 0.2761 + 0.01 * bad, "served_loss": 0.277}
                | {"swapped": not bad}
            )
    return {
        "windows": windows,
        "emissions": emissions,
        "rollbacks": [{"from": line["number"], "to": 3} for line in emissions[-1:]],
        "recipe": {
            "inputs": {"source": ["events.parquet"], "schema": {"id_fields": ["user", "item"], "label": "clicked"}},
            "settings": {"warm_up": WARM_UP, "window": SIZE, "bottom": [], "top": [512, 256, 128]},
            "versions": {"prunus": "0.1"},
        },
        "spent": {"events": n_windows * SIZE, "seconds": 2.5},
        "result": None,
    }


def put_down(run, folder):
    """Write the logs where the loop has them."""
    (folder / "models").mkdir(parents=True, exist_ok=True)
    for name, file in (("windows", "windows"), ("emissions", "emissions"), ("rollbacks", "models/rollbacks")):
        (folder / f"{file}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in run[name]))
    for name in ("recipe", "spent", "result"):
        if run[name] is not None:
            (folder / f"{name}.json").write_text(json.dumps(run[name]))
    return folder


if __name__ == "__main__":
    from prunus.report.stream import write

    sys.stdout.write(f"{write(put_down(sample(), Path(sys.argv[1])))}\n")
