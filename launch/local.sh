#!/usr/bin/env bash
# Runs the road on this machine and takes it up again where it was interrupted (exit code 75, or
# ended by a signal), at most TRIES times (default 20); Ctrl-C or SIGTERM stops it for good.
#   launch/local.sh --config configs/quickstart.py [--workdir DIR] [--config.key=value ...]
#   launch/local.sh --processes N [--devices D] -- --config configs/quickstart.py ...
# With --processes: N processes of D CPU devices each (default 1) are one run over loopback, as many
# hosts are over a network (docs/processes.md); their lines begin with [number]. When one ends with
# an error, or they are asked to stop, all have GRACE seconds (default 30) to end by themselves.
# With JAX_PLATFORMS=cuda,cpu each of them has the GPU of its number.
# Ends with main's exit code: 0 done, 1 training failed, 2 settings, 3 data. SIGTERM and Ctrl-C are
# passed on, and training then saves: after SIGTERM the code is main's (75), after Ctrl-C 130.
set -u
python="${PYTHON:-python3}" processes=0 devices=1 tries=${TRIES:-20} grace=${GRACE:-30}
children=() stopped='' told=''

while (($# > 1)); do
  case $1 in
    --processes) processes=$2 ;;
    --devices) devices=$2 ;;
    *) break ;;
  esac
  shift 2
done
if [[ "${1:-}" == -- ]]; then shift; fi
for pair in "--processes $processes 0" "--devices $devices 1" "TRIES $tries 1" "GRACE $grace 0"; do
  least=${pair##* } value=${pair#* }
  value=${value% *}
  if [[ ! $value =~ ^(0|[1-9][0-9]{0,5})$ ]] || ((value < least)); then
    echo "local.sh: ${pair%% *}: got '$value', expected a whole number from $least on, as in 12" >&2
    exit 2
  fi
done

# shellcheck disable=SC2329 # the traps call it
stop() { # SIGNAL: asks all processes to save and end; a second one they would take as "at once"
  if [[ $stopped && $1 == TERM ]]; then return; fi
  stopped=$1 told=''
  tell
}

tell() { # what was asked for, perhaps before the processes were there to hear it
  local signal=$stopped
  if [[ ! $stopped || $told ]] || ((${#children[@]} == 0)); then return; fi
  told=yes
  if ((processes)); then signal=TERM; fi # what JAX has the processes agree on
  kill -"$signal" "${children[@]}" 2>/dev/null
}
trap 'stop INT' INT
trap 'stop TERM' TERM HUP

free_address() {
  local find='import socket; print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])'
  echo "127.0.0.1:$("$python" -c "$find")"
}

start_all() { # ADDRESS ARGUMENT...
  local number address=$1
  shift
  children=()
  for ((number = 0; number < processes; number++)); do
    JAX_PLATFORMS="${JAX_PLATFORMS:-cpu}" JAX_LOCAL_DEVICE_IDS="$number" \
      XLA_FLAGS="${XLA_FLAGS:-} --xla_force_host_platform_device_count=$devices" \
      "$python" -m rejepa_jax.main "$@" --coordinator_address="$address" \
      --num_processes="$processes" --process_id="$number" \
      > >(sed -u "s/^/[$number] /") 2> >(sed -u "s/^/[$number] /" >&2) &
    children+=($!)
  done
  told=''
  tell
}

run_many() { # ARGUMENT...: returns the exit code of the first that ends with an error
  local number status code=0 ticks=0
  start_all "$(free_address)" "$@"
  while ((${#children[@]})); do
    sleep 0.2
    for number in "${!children[@]}"; do
      if kill -0 "${children[number]}" 2>/dev/null; then continue; fi
      wait "${children[number]}"
      status=$?
      unset "children[$number]"
      if ((code == 0)); then code=$status; fi
    done
    if [[ $stopped ]] || ((code)); then
      if ((++ticks == 5 * grace + 1)); then kill -KILL "${children[@]}" 2>/dev/null; fi
    fi
  done
  return "$code"
}

# In the background, for the shell runs no trap while it waits in the foreground; and in a group of
# its own (set -m), for the terminal would send Ctrl-C to it as well, twice in all.
run_one() { # ARGUMENT...
  set -m
  "$python" -m rejepa_jax.main "$@" </dev/null &
  children=($!)
  set +m
  tell
  while kill -0 "${children[0]}" 2>/dev/null; do wait "${children[0]}"; done
  wait "${children[0]}" # again: a signal to this shell ends a wait, too
}

code=75
for ((try = 1; try <= tries; try++)); do
  if ((try > 1)); then
    echo "interrupted (exit code $code); going on" >&2
    sleep 5
  fi
  if [[ ! $stopped ]]; then
    if ((processes)); then run_many "$@"; else run_one "$@"; fi
    code=$?
    children=()
  fi
  if [[ $stopped == INT ]]; then exit 130; fi
  if [[ $stopped ]] || ((code != 75 && code < 128)); then exit "$code"; fi
done
exit "$code"
