#!/usr/bin/env bash
# Runs on every host of a slice, in the folder that launch/tpu.py copied there. Says how it went in
# one line, `rejepa HOST WORD ...`, since the exit codes of many hosts get lost on the way back.
#   host.sh setup                     installs the wheel; says the versions
#   host.sh run [SLICES ID ADDRESS]   starts the run, which goes on when the connection ends
#   host.sh state                     idle | running | done CODE | lost, what, and the last metrics
#   host.sh stop                      asks the run to save and end; kills it after GRACE seconds
#   host.sh log LINES | follow [all]  shows the log; with whose it is, where it is one of many
#   host.sh address                   says the number of the host in its slice, and its address
set -u
cd "$(dirname "$0")" || exit 1
host=$(hostname)

say() { printf 'rejepa %s %s\n' "$host" "$*"; }
fail() {
  say failed "$*"
  exit 1
}
bundle() { cat host.sh constraints.txt ./*.whl configs/*.* run.sh | sha256sum | cut -c 1-12; }
task() { cat configs/*.* run.sh | sha256sum | cut -c 1-12; }
wanted() { cat ./*.whl constraints.txt | sha256sum | cut -c 1-12; }
is_running() { ! flock --shared --nonblock lock true; }

# The package needs Python 3.11 or 3.12; Ubuntu 22.04 comes with 3.10, there uv fetches one.
make_environment() {
  local python
  for python in python3.12 python3.11; do
    "$python" -m venv --clear venv && return
  done
  PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --quiet --user uv &&
    python3 -m uv venv --quiet --seed --clear --python 3.11 venv
}

setup() {
  if [ "$(cat installed 2>/dev/null)" != "$(wanted)" ]; then
    is_running && fail "a run goes on here: stop it first"
    make_environment >setup.log 2>&1 || fail "no Python: $(tail -n 1 setup.log)"
    venv/bin/python -m pip install --quiet --constraint constraints.txt \
      "$(echo ./*.whl)[tpu,gs]" >>setup.log 2>&1 || fail "pip: $(tail -n 1 setup.log)"
    wanted >installed
  fi
  say ready "bundle $(bundle) $(versions)"
}

versions() {
  venv/bin/python - <<'END'
import importlib.metadata, platform
names = ("jax", "jaxlib", "libtpu", "flax", "orbax-checkpoint", "grain", "rejepa_jax")
print("python", platform.python_version(), *(f"{n} {importlib.metadata.version(n)}" for n in names))
END
}

start() {
  if is_running; then
    say running "bundle $(cat started) already"
    return
  fi
  [ "$(cat installed 2>/dev/null)" = "$(wanted)" ] || fail "not set up with this wheel: setup first"
  if (($# == 3)); then # several slices that the platform does not know to be one
    export MEGASCALE_NUM_SLICES=$1 MEGASCALE_SLICE_ID=$2 MEGASCALE_COORDINATOR_ADDRESS=$3
    export MEGASCALE_PORT=8081
  fi
  rm -f code && task >begun && bundle >started
  echo "=== $(date -u +%FT%TZ) bundle $(bundle)" >>log.txt
  setsid nohup flock --timeout 10 lock bash ./host.sh supervise </dev/null >>log.txt 2>&1 &
  for _ in {1..50}; do
    if is_running || [ -f code ]; then break; fi
    sleep 0.1
  done
  say running "bundle $(bundle)"
}

# Holds the lock as long as the run goes on, and keeps its exit code.
supervise() {
  PYTHON="$PWD/venv/bin/python" REJEPA_CACHE="$PWD/cache" bash ./run.sh &
  echo $! >pid
  wait $!
  echo $? >code.new && mv code.new code
}

state() {
  if is_running; then
    say running "$(progress)"
  elif [ -f code ]; then
    say "done" "$(cat code) $(progress)"
  elif [ -f started ]; then
    say lost "$(progress)" # it was killed with its supervisor, or the host was restarted
  else
    say idle
  fi
}

# What runs or ran, and the last logged step, on the host whose process writes it.
progress() { echo "task $(cat begun 2>/dev/null) $(metrics)"; }
metrics() { tail -q -n 1 cache/*/checkpoints/metrics.jsonl 2>/dev/null | tail -n 1; }

stop() {
  if is_running; then
    kill -TERM "$(cat pid)" 2>/dev/null
    for ((second = 0; second < ${GRACE:-300}; second++)); do
      is_running || break
      sleep 1
    done
    is_running && kill -KILL "$(cat pid)" 2>/dev/null && sleep 1
  fi
  state
}

case ${1:-} in
  setup) setup ;;
  run) shift && start "$@" ;;
  supervise) supervise ;;
  state) state ;;
  stop) stop ;;
  log) tail -n "$2" log.txt | sed "s/^/$host: /" ;;
  follow)
    if [ "${2:-}" = all ]; then
      tail -n 100 -F log.txt | sed -u "s/^/$host: /"
    else
      exec tail -n 100 -F log.txt
    fi
    ;;
  address)
    url=http://metadata.google.internal/computeMetadata/v1/instance
    say address "$(curl -sf -H Metadata-Flavor:Google $url/attributes/agent-worker-number)" \
      "$(curl -sf -H Metadata-Flavor:Google $url/network-interfaces/0/ip)"
    ;;
  *) fail "got '${1:-}', expected a verb" ;;
esac
