#!/usr/bin/env bash
# Runs the road on the GPUs of this machine, one process for all of them, and takes it up again where
# it was interrupted, as launch/local.sh does. Looks first whether the driver and JAX see the GPUs:
# JAX alone would train on the processors instead, with one line of warning.
#   launch/gpus.sh [--dry_run] --config configs/ben14k.py [--workdir DIR] [--config.key=value ...]
# CUDA_VISIBLE_DEVICES=0,1 takes some of them; PYTHON and TRIES are those of launch/local.sh.
# --dry_run, given first, only prints the command. Exit codes: those of launch/local.sh.
set -euo pipefail

fail() {
  echo "gpus.sh: $1" >&2
  exit 2
}

is_dry=''
if [ "${1:-}" = --dry_run ]; then
  is_dry=yes
  shift
fi
(($#)) || fail 'got nothing to run, expected --config configs/X.py ...'
[ "$1" != --processes ] || fail "got --processes, expected none: one process drives all GPUs"
run=("$(dirname "$0")/local.sh" "$@")
python=${PYTHON:-python3}
# A GPU must be there or it is an error; and all but a rest of its memory is JAX's from the start.
export JAX_PLATFORMS=${JAX_PLATFORMS:-cuda,cpu}
export XLA_PYTHON_CLIENT_MEM_FRACTION=${XLA_PYTHON_CLIENT_MEM_FRACTION:-0.92}

if [ "$is_dry" ]; then
  echo "JAX_PLATFORMS=${JAX_PLATFORMS@Q} \\"
  echo "XLA_PYTHON_CLIENT_MEM_FRACTION=${XLA_PYTHON_CLIENT_MEM_FRACTION@Q} PYTHON=${python@Q} \\"
  echo "${run[*]@Q}"
  exit 0
fi

command -v nvidia-smi >/dev/null ||
  fail "no nvidia-smi here: no NVIDIA driver. launch/local.sh runs on processors"
listed=$(nvidia-smi --list-gpus 2>&1) || fail "the driver does not answer: $listed"
there=$(grep -c '^GPU ' <<<"$listed" || true)
((there)) || fail "nvidia-smi lists no GPU: $listed"
count='import jax; print(len(jax.devices("gpu")))'
seen=$(XLA_PYTHON_CLIENT_PREALLOCATE=false "$python" -c "$count" 2>&1 | tail -n 1) || true
[[ $seen =~ ^[0-9]+$ ]] ||
  fail "the driver has $there GPUs, JAX none ($seen); pip install -c constraints.txt -e '.[cuda]'"
echo "JAX has $seen of $there GPUs" >&2
busy=$(nvidia-smi --query-compute-apps=pid,used_memory --format=csv,noheader 2>/dev/null || true)
[ -z "$busy" ] || echo "warning: others use GPU memory here (pid, MiB): ${busy//$'\n'/; }" >&2
exec "${run[@]}"
