#!/usr/bin/env bash
# Every speed check that wants an accelerator, one after the other, on the device of this machine:
# the training step on images that lie there, the same fed from records, embedding, search. For
# one GPU (the targets are those of an H200) or one TPU; each part takes minutes, ten at most.
#   benchmarks/accelerator.sh [--toy] OUT [PART ...]
# PART is one of: step_vit_b16_224 step_vit_b15_120x10 fed_vit_b16_224 fed_vit_b15_120x10
# embed_vit_b16_224 embed_vit_b15_120x10 search; without any, all. OUT gets PART.jsonl (what it
# printed, one JSON line a row), PART.log (all else) and results.jsonl, of all parts that ran, each
# line with its part. A part that fails or misses its target does not stop the others; the exit code
# is then 1. PYTHON=python3 chooses the interpreter, LIMIT=600 the seconds after which a part is
# ended, PEAK=790 the TFLOP/s of a device that MFU is a share of (by default its datasheet's).
# With --toy all parts run in seconds, on a CPU too, at sizes that say nothing; but search, which
# takes minutes there, only if it is named.
#
# No XLA flags are set; what stands in XLA_FLAGS is left. On a GPU these are worth a try by hand:
#   --xla_gpu_triton_gemm_any=true                  XLA's own matrix products compete with cuBLAS
#   --xla_gpu_exhaustive_tiling_search=true         tries more tiles, and compiles for longer
#   --xla_gpu_enable_latency_hiding_scheduler=true  several GPUs: overlaps collectives
set -euo pipefail

usage() {
  sed -n '5,14p' "$0" >&2
  exit 2
}

toy=''
if [ "${1:-}" = --toy ]; then
  toy=yes
  shift
fi
(($# > 0)) || usage
out="$1"
shift
mkdir -p "$out"
out="$(realpath "$out")"
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
python="${PYTHON:-python3}"
peak=(${PEAK:+--peak "$PEAK"})

# The command of a part, its words one a line.
words() {
  local preset="${1#*_}"
  case "$1${toy:+ toy}" in
    step_vit_*' toy') printf '%s\n' step.py --preset toy ;;
    fed_vit_*' toy') printf '%s\n' fed.py --preset toy ;;
    embed_vit_*' toy') printf '%s\n' embed.py --preset toy ;;
    'search toy') printf '%s\n' search.py --device --rows 4096 --dim 64 ;;
    step_vit_*) printf '%s\n' step.py --preset "$preset" --check "${peak[@]}" ;;
    fed_vit_*) printf '%s\n' fed.py --preset "$preset" --check ;;
    embed_vit_*) printf '%s\n' embed.py --preset "$preset" --check "${peak[@]}" ;;
    search) printf '%s\n' search.py --device --check ;;
    *) return 1 ;;
  esac
}

parts=("$@")
if ((${#parts[@]} == 0)); then
  parts=({step,fed,embed}_{vit_b16_224,vit_b15_120x10})
  [ -n "$toy" ] || parts+=(search)
fi
for part in "${parts[@]}"; do
  words "$part" >/dev/null || usage
done

if [ -z "$toy" ]; then
  "$python" -c 'import jax, sys; sys.exit(jax.default_backend() == "cpu")' || {
    echo "accelerator.sh: JAX sees no accelerator here; --toy runs on a CPU too" >&2
    exit 2
  }
fi

failed=()
: >"$out/results.jsonl"
for part in "${parts[@]}"; do
  mapfile -t command < <(words "$part")
  echo "== $part: $python benchmarks/${command[*]}" >&2
  start="$SECONDS"
  if ! timeout --signal=KILL "${LIMIT:-600}" "$python" "benchmarks/${command[0]}" \
    "${command[@]:1}" >"$out/$part.jsonl" 2>"$out/$part.log"; then
    failed+=("$part")
    tail -n 5 "$out/$part.log" >&2
  fi
  grep '^{' "$out/$part.jsonl" | sed "s/^{/{\"part\": \"$part\", /" | tee -a "$out/results.jsonl" || true
  echo "== $part: $((SECONDS - start)) s" >&2
done
if ((${#failed[@]} > 0)); then
  echo "missed or failed: ${failed[*]}" >&2
  exit 1
fi
echo "all held" >&2
