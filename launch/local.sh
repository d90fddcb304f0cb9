#!/usr/bin/env bash
# Runs the road on this machine and takes it up again where it was interrupted (exit code 75, or
# ended by a signal), at most TRIES times (default 20); Ctrl-C stops it for good.
#   launch/local.sh --config configs/quickstart.py [--workdir DIR] [--config.key=value ...]
# Ends with main's exit code: 0 done, 1 training failed, 2 settings, 3 data.
set -u
trap 'exit 130' INT TERM
for ((try = 1; try <= ${TRIES:-20}; try++)); do
  "${PYTHON:-python3}" -m rejepa_jax.main "$@"
  code=$?
  if ((code != 75 && code < 128)); then exit "$code"; fi
  echo "interrupted (exit code $code); going on" >&2
  sleep 5
done
exit "$code"
