# launch/gpus.sh with a driver and a JAX that are only played (fake_k8s/tool).
# shellcheck shell=bash disable=SC2030,SC2031,SC2016

bats_require_minimum_version 1.5.0

setup() {
  cd "$BATS_TEST_TMPDIR" || exit
  export FAKE=$PWD PYTHON=$PWD/bin/python
  unset JAX_PLATFORMS XLA_PYTHON_CLIENT_MEM_FRACTION
  gpus=$BATS_TEST_DIRNAME/../../launch/gpus.sh
  mkdir bin answers
  for tool in nvidia-smi python; do ln -s "$BATS_TEST_DIRNAME/fake_k8s/tool" "bin/$tool"; done
  PATH=$PWD/bin:$PATH
  answer 'nvidia-smi --list-gpus' 0 'GPU 0: NVIDIA H200 (UUID: a)' 'GPU 1: NVIDIA H200 (UUID: b)'
  answer 'python -c import?jax*' 0 2
}

# Adds an answer: PATTERN CODE WHAT-IT-SAYS ...
answer() { printf '%s\n' "$@" >"answers/$(find answers -type f | wc -l)"; }

@test "gpus: one process gets all GPUs and every word" {
  run "$gpus" --config 'configs/a b.py' '--config.c=$(touch owned);'
  [ "$status" -eq 0 ]
  [[ $output == *'JAX has 2 of 2 GPUs'* ]]
  [ "$(tail -n 1 calls)" = 'python -m rejepa_jax.main --config configs/a\ b.py --config.c=\$\(touch\ owned\)\;' ]
  [ ! -e owned ]
}

@test "gpus: the exit code of the run is the script's" {
  answer 'python -m rejepa_jax.main*' 3
  run "$gpus" --config x
  [ "$status" -eq 3 ]
}

@test "gpus: a dry run prints a runnable line and asks nobody" {
  run "$gpus" --dry_run --config 'a b;touch owned'
  [ "$status" -eq 0 ]
  [ ! -e calls ]
  bash -euc "$output"
  [ "$(cat calls)" = 'python -m rejepa_jax.main --config a\ b\;touch\ owned' ]
  [ ! -e owned ]
}

@test "gpus: no driver, a driver that is broken, no GPU: one clear line, and nothing starts" {
  rm answers/*
  answer 'nvidia-smi *' 9 "NVIDIA-SMI has failed because it couldn't communicate with the driver"
  run "$gpus" --config x
  [ "$status" -eq 2 ]
  [[ $output == *'the driver does not answer: NVIDIA-SMI has failed'* ]]
  rm answers/*
  answer 'nvidia-smi *' 0 'No devices found.'
  run "$gpus" --config x
  [ "$status" -eq 2 ]
  [[ $output == *'lists no GPU: No devices found.'* ]]
  mkdir only && ln -s "$(command -v bash)" "$(command -v dirname)" only
  PATH=$PWD/only run "$gpus" --config x
  [ "$status" -eq 2 ]
  [[ $output == *'no nvidia-smi here'* ]]
  run ! grep -q rejepa_jax calls
}

@test "gpus: a JAX that sees no GPU does not train on processors instead" {
  rm answers/1
  answer 'python -c import?jax*' 1 "RuntimeError: Unknown backend: 'gpu' requested"
  run "$gpus" --config x
  [ "$status" -eq 2 ]
  [[ $output == *"the driver has 2 GPUs, JAX none (RuntimeError: Unknown backend"*"-e '.[cuda]'"* ]]
  run ! grep -q rejepa_jax calls
}

@test "gpus: memory that others hold is said" {
  answer 'nvidia-smi --query-compute-apps*' 0 '4242, 30000 MiB'
  run "$gpus" --config x
  [ "$status" -eq 0 ]
  [[ $output == *'warning: others use GPU memory here (pid, MiB): 4242, 30000 MiB'* ]]
}

@test "gpus: nothing to run, or several processes, is refused" {
  run "$gpus"
  [ "$status" -eq 2 ]
  run "$gpus" --processes 2 -- --config x
  [ "$status" -eq 2 ]
}
