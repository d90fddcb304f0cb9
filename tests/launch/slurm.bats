# launch/slurm.sh and launch/slurm_job.sh against a SLURM that is only played (fake_k8s/tool).
# shellcheck shell=bash disable=SC2030,SC2031,SC2016

bats_require_minimum_version 1.5.0

setup() {
  cd "$BATS_TEST_TMPDIR" || exit
  export FAKE=$PWD
  launch=$BATS_TEST_DIRNAME/../../launch
  mkdir bin answers
  for tool in sbatch squeue srun scontrol; do ln -s "$BATS_TEST_DIRNAME/fake_k8s/tool" "bin/$tool"; done
  PATH=$PWD/bin:$PATH
  answer 'sbatch *' 0 4711
}

# Adds an answer: PATTERN CODE WHAT-IT-SAYS
answer() { printf '%s\n' "$@" >"answers/$(find answers -type f | wc -l)"; }

ours() { "$launch/slurm.sh" --gpus_per_node 4 --nodes 2 "$@"; }

# As on the first node of a job: TRIES LOGS SETUP IMAGE [OPTIONS] -- ARGUMENTS
job() { SLURM_JOB_ID=4711 SLURM_JOB_NAME=ben PYTHON=python "$launch/slurm_job.sh" "$@"; }

@test "slurm: a dry run prints runnable lines and asks nobody" {
  run ours --dry_run --logs 'my logs' -- --config configs/ben14k.py '--config.a=b c;touch owned'
  [ "$status" -eq 0 ]
  [ "${lines[0]}" = "squeue --me --noheader --name=rejepa '--format=%i %T'" ]
  [ "${lines[1]}" = "mkdir -p 'my logs'" ]
  [ ! -e calls ]
  bash -euc "$output"
  [ -d 'my logs' ] && [ ! -e owned ]
  expected=$(cat <<END
sbatch --parsable --job-name=rejepa --nodes=2 --ntasks-per-node=4 --time=24:00:00 \
--signal=TERM@120 --requeue --open-mode=append --output=my\ logs/%x-%j.log --gpus-per-node=4 \
$launch/slurm_job.sh 20 my\ logs '' '' -- --config configs/ben14k.py \
--config.a=b\ c\;touch\ owned --distributed
END
  )
  [ "$(tail -n 1 calls)" = "$expected" ]
}

@test "slurm: it is submitted, and what to look at is said" {
  run ours --name ben --partition gpu --account a --sbatch=--qos=high --time 2:00:00 -- --config x
  [ "$status" -eq 0 ]
  [[ $output == *'submitted as job 4711'*'squeue --job 4711'*ben-4711-0.log*'scancel 4711'* ]]
  [[ $(tail -n 1 calls) == *'--time=2:00:00 '*' --partition=gpu --account=a --qos=high '* ]]
}

@test "slurm: one process alone is not made to look for others" {
  "$launch/slurm.sh" --gpus_per_node 0 -- --config x
  [[ $(tail -n 1 calls) == *' -- --config x' ]]
  [[ $(tail -n 1 calls) != *gpus-per-node* ]]
}

@test "slurm: a second job of the same name is refused" {
  answer 'squeue *' 0 '4710 PENDING'
  run ours -- --config x
  [ "$status" -eq 2 ]
  [[ $output == *'a job named rejepa is in the queue already (4710 PENDING)'* ]]
  run ! grep -q sbatch calls
}

@test "slurm: a scheduler that does not answer is 75, a job that it refuses 2" {
  answer 'squeue *' 1 'slurm_load_jobs error: Unable to contact slurm controller'
  run ours -- --config x
  [ "$status" -eq 75 ]
  rm answers/*
  answer 'sbatch *' 1 'sbatch: error: invalid partition specified: gpu'
  run ours -- --config x
  [ "$status" -eq 2 ]
  [[ $output == *'invalid partition'*'sbatch refused the job'* ]]
}

@test "slurm: what cannot be is refused before anything is asked" {
  for words in '--name=a;touch${IFS}owned' '--name=a b' '--nodes=2x' '--nodes=0' '--tries=0' \
    '--gpus_per_node=a[$(touch owned)]' '--tasks_per_node=$(touch owned)' '--logs=%j' \
    '--setup=/nowhere' '--image=/nowhere.sif' '--nodez=2' 'configs/x.py'; do
    run ours "$words" -- --config x
    [ "$status" -eq 2 ] || { echo "$words: $status $output" && false; }
  done
  run ours
  [ "$status" -eq 2 ]
  run ours --nodes
  [ "$status" -eq 2 ]
  [ ! -e owned ] && [ ! -e calls ]
}

@test "slurm: GPUs that no process would use are refused" {
  for words in '--tasks_per_node=1' '--tasks_per_node=8' '--nodes=1 --tasks_per_node=2'; do
    # shellcheck disable=SC2086
    run ours $words -- --config x
    [ "$status" -eq 2 ]
    [[ $output == *'expected 4, one process a GPU (--gpus_per_node 4)'* ]]
  done
  [ ! -e calls ]
  ours --nodes=1 --tasks_per_node=1 -- --config x # one alone takes all four
  ours --gpus_per_node=0 --tasks_per_node=3 -- --config x
  [ "$(grep -c sbatch calls)" -eq 2 ]
}

@test "slurm: without SLURM it says where to go" {
  mkdir only && ln -s "$(command -v bash)" "$(command -v dirname)" only
  PATH=$PWD/only run ours -- --config x
  [ "$status" -eq 2 ]
  [[ $output == *'no sbatch here; run this on a login node'* ]]
}

@test "slurm job: exit codes 0, 1, 2 and 3 stay, and nothing is put back" {
  for code in 0 1 2 3; do
    rm -f calls answers/*
    answer 'srun *' "$code"
    run job 20 logs '' '' -- --config 'a b'
    [ "$status" -eq "$code" ]
    expected='srun --kill-on-bad-exit=0 --open-mode=append --output=logs/ben-4711-%t.log bash -c '
    [[ $(cat calls) == "$expected"*' logs/ben-4711.mistake python -m rejepa_jax.main --config a\ b' ]]
  done
}

# An srun that runs the tasks, as many as it is told codes, and ends with the highest of the codes.
# Task N is asked to stop after 0.N s, and its program ends with the N-th code.
srun_runs() {
  rm bin/srun
  cat >bin/srun <<'END'
#!/bin/bash
while [[ $1 == --* ]]; do shift; done
highest=0 number=0
for code in $CODES; do
  SLURM_PROCID=$((number++)) CODE=$code setsid "$@" &
  sleep 0.3
  kill -TERM -$! # as SLURM does: the whole task
  wait $!
  code=$?
  ((code <= highest)) || highest=$code
done
exit "$highest"
END
  cat >bin/task <<'END'
#!/bin/bash
trap 'exit $CODE' TERM
echo "${JAX_PLATFORMS:-none}" >>platforms
for _ in {1..100}; do sleep 0.1; done
END
  chmod +x bin/srun bin/task
}

@test "slurm job: a mistake of one process is the job's, whatever signal ended its peers" {
  srun_runs
  mkdir logs
  echo 2 >logs/ben-4711.mistake-7 # of an earlier stay
  for pair in '1 134 1' '134 3 3' '75 134 134' '0 0 0'; do
    : >calls
    CODES=${pair% *} SLURM_JOB_ID=4711 SLURM_JOB_NAME=ben PYTHON=task \
      run "$launch/slurm_job.sh" 20 logs '' '' -- --config x
    [ "$status" -eq "${pair##* }" ] || { echo "$pair: $status $output" && false; }
    expected=''
    ((status != 134)) || expected='scontrol requeue 4711'
    [ "$(cat calls)" = "$expected" ]
    [ -z "$(ls logs)" ]
  done
}

@test "slurm job: where SLURM gave GPUs, processors are not taken in their place" {
  srun_runs
  unset JAX_PLATFORMS
  export CODES=0 PYTHON=task SLURM_JOB_ID=4711 SLURM_JOB_NAME=ben
  "$launch/slurm_job.sh" 20 . '' '' -- --config x
  SLURM_GPUS_ON_NODE=2 "$launch/slurm_job.sh" 20 . '' '' -- --config x
  SLURM_JOB_GPUS=0,1 "$launch/slurm_job.sh" 20 . '' '' -- --config x
  SLURM_GPUS_ON_NODE=2 JAX_PLATFORMS=rocm "$launch/slurm_job.sh" 20 . '' '' -- --config x
  [ "$(paste -sd ' ' platforms)" = 'none cuda,cpu cuda,cpu rocm' ]
}

@test "slurm job: 75 and signals go back into the queue, as often as --tries says" {
  for code in 75 137 143; do
    rm -f calls answers/*
    answer 'srun *' "$code"
    run job 2 logs '' '' -- --config x
    [ "$status" -eq "$code" ]
    [ "$(tail -n 1 calls)" = 'scontrol requeue 4711' ]
  done
  SLURM_RESTART_COUNT=1 run job 2 logs '' '' -- --config x
  [ "$status" -eq 143 ]
  [[ $output == *'2 tries are over'* ]]
  [ "$(grep -c scontrol calls)" -eq 1 ]
}

@test "slurm job: a requeue that is refused is said" {
  answer 'srun *' 75
  answer 'scontrol *' 1 'Requested operation is presently disabled'
  run job 20 logs '' '' -- --config x
  [ "$status" -eq 75 ]
  [[ $output == *'could not be put back; submit it again'* ]]
}

@test "slurm job: setup file, image and options of srun" {
  echo 'export WHERE=there' >'set up.sh'
  job 20 logs 'set up.sh' a.sif --cpu-bind=none -- --config x
  [[ $(cat calls) == *' --cpu-bind=none bash -c '*' apptainer exec --nv a.sif python -m rejepa_jax.main --config x' ]]
  echo 'return 7' >bad.sh
  rm calls
  run job 20 logs ./bad.sh '' -- --config x
  [ "$status" -eq 2 ]
  [ ! -e calls ]
}
