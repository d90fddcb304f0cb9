#!/usr/bin/env bash
# REJEPA beside MAE on real aerial images, on one GPU: the same number of epochs, then the same
# number of FLOPs. Give it again after an interruption: what is finished is kept, what is begun goes
# on from its last checkpoint.
#   launch/aid_gpu.sh AID.tar SPLIT.csv OUT [--config.key=value ...]
# OUT/arms/ablation.md has the scores, OUT/arms/baseline/seed-0/report/report.html the report.
set -euo pipefail
if (($# < 3)); then
  sed -n '2,6p' "$0" >&2
  exit 2
fi
archive=$(realpath "$1") split=$(realpath "$2") out=$(realpath -m "$3")
shift 3
python="${PYTHON:-python3}"
config=(--config configs/aid_gpu.py --config.data.archive="$archive"
  --config.data.split_file="$split" "$@")
cd "$(dirname "$0")/.."
"$python" -m rejepa_jax.main "${config[@]}" --workdir "$out" --stage prepare
"$python" benchmarks/ablate.py "${config[@]}" --records "$out/records" --out "$out/arms" \
  --tables method --arms 'baseline,mae,mae at equal FLOPs' --seeds "${SEEDS:-0}"
"$python" -m rejepa_jax.main "${config[@]}" --config.data.records="$out/records" \
  --workdir "$out/arms/baseline/seed-0"
