"""A stand-in for NVIDIA's dcgm-exporter, which cannot run without a GPU: see `serve`.

It answers ``GET /metrics`` with the metrics, types and labels of dcgm-exporter's default counters, and the ECC and
thermal ones, for the GPUs that the JSON file STATE tells of (see `lab.dcgm`); STATE is read at each scrape.
MAPPING is what ``--hpc-job-mapping-dir`` names there, and read as releases before 2026 do:

* one file per GPU, whose name is the GPU's index; other names and folders are passed over;
* a job's id a line, each of which makes a series of its own with the label ``hpc_job``;
* a file without a line hides its GPU (NVIDIA/dcgm-exporter#533 changed that), a line that stands twice makes the
  answer 500 (NVIDIA/dcgm-exporter#730 changed that): what is right for these is right for newer ones;
* a folder that is not there is no error.

It runs with a node's own Python, so it imports nothing of the lab.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# Source: etc/default-counters.csv of dcgm-exporter; those of the second group are commented out there.
COUNTERS = {
    "DCGM_FI_DEV_SM_CLOCK": "gauge",
    "DCGM_FI_DEV_MEM_CLOCK": "gauge",
    "DCGM_FI_DEV_MEMORY_TEMP": "gauge",
    "DCGM_FI_DEV_GPU_TEMP": "gauge",
    "DCGM_FI_DEV_POWER_USAGE": "gauge",
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": "counter",
    "DCGM_FI_DEV_PCIE_REPLAY_COUNTER": "counter",
    "DCGM_FI_DEV_GPU_UTIL": "gauge",
    "DCGM_FI_DEV_MEM_COPY_UTIL": "gauge",
    "DCGM_FI_DEV_ENC_UTIL": "gauge",
    "DCGM_FI_DEV_DEC_UTIL": "gauge",
    "DCGM_FI_DEV_XID_ERRORS": "gauge",
    "DCGM_FI_DEV_FB_FREE": "gauge",
    "DCGM_FI_DEV_FB_USED": "gauge",
    "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL": "counter",
    "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS": "counter",
    "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS": "counter",
    "DCGM_FI_DEV_ROW_REMAP_FAILURE": "gauge",
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE": "gauge",
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": "gauge",
    "DCGM_FI_PROF_DRAM_ACTIVE": "gauge",
    #
    "DCGM_FI_DEV_THERMAL_VIOLATION": "counter",
    "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL": "counter",
    "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL": "counter",
    "DCGM_FI_DEV_ECC_SBE_AGG_TOTAL": "counter",
    "DCGM_FI_DEV_ECC_DBE_AGG_TOTAL": "counter",
}
ALL_IDLE = {
    **dict.fromkeys(COUNTERS, 0.0),
    "DCGM_FI_DEV_SM_CLOCK": 345,
    "DCGM_FI_DEV_MEM_CLOCK": 2619,
    "DCGM_FI_DEV_MEMORY_TEMP": 33,
    "DCGM_FI_DEV_GPU_TEMP": 31,
    "DCGM_FI_DEV_POWER_USAGE": 71.5,
    "DCGM_FI_DEV_FB_FREE": 81008,
}
"""What an idle H100 shows, or about that."""


class DuplicateSeries(ValueError):
    """Two samples with the same labels, which dcgm-exporter answers with 500."""


def render(gpus: list[dict[str, Any]], jobs: dict[str, list[str]]) -> str:
    """Write the metrics in Prometheus' text format, unescaped as dcgm-exporter does.

    Args:
        gpus: For each GPU its ``labels`` and its ``values`` by metric; one without a value is left out.
        jobs: The mapping: GPU to the ids of its jobs.

    Raises:
        DuplicateSeries: a job stands twice on one GPU.
    """
    lines: list[str] = []
    seen: set[str] = set()
    for name, kind in COUNTERS.items():
        lines += [f"# HELP {name} {name[len('DCGM_FI_') :].lower()}", f"# TYPE {name} {kind}"]
        for gpu in gpus:
            value = gpu["values"].get(name)
            if value is None:
                continue
            for labels in _with_jobs(gpu["labels"], jobs):
                series = name + "{" + ",".join(f'{label}="{text}"' for label, text in labels.items()) + "}"
                if series in seen:
                    raise DuplicateSeries(f"collected metric {series} was collected before with the same labels")
                seen.add(series)
                lines.append(f"{series} {value:g}")
    return "\n".join(lines) + "\n"


def _with_jobs(labels: dict[str, str], jobs: dict[str, list[str]]) -> Iterator[dict[str, str]]:
    if labels["gpu"] not in jobs:
        yield labels
    for job in jobs.get(labels["gpu"], ()):
        yield {**labels, "hpc_job": job}


def read_mapping(folder: str) -> dict[str, list[str]]:
    """Read the folder of jobs by GPU; one that is not there, or not wanted, has none."""
    jobs: dict[str, list[str]] = {}
    try:
        names = sorted(os.listdir(folder)) if folder else []
    except FileNotFoundError:
        return jobs
    for name in names:
        path = os.path.join(folder, name)
        if name.isdecimal() and not os.path.isdir(path):
            with open(path, encoding="utf-8", errors="replace") as file:
                jobs[name] = file.read().splitlines()
    return jobs


def serve(address: str, port: int, state: str, mapping: str) -> None:
    """Answer until the process is ended: what ``python3 dcgm_exporter.py ADDRESS PORT STATE [MAPPING]`` does."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/health":
                self.answer(200, "KO" if not os.path.exists(state) else "OK")
            elif self.path != "/metrics":
                self.answer(404, "404 page not found")
            else:
                try:
                    with open(state, encoding="utf-8") as file:
                        text = render(json.load(file), read_mapping(mapping))
                except (DuplicateSeries, OSError) as error:
                    self.answer(500, f"{error}\n")
                else:
                    self.answer(200, text)

        def answer(self, status: int, text: str) -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    ThreadingHTTPServer((address, port), Handler).serve_forever()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4] if len(sys.argv) > 4 else "")
